"""Simulated annealing: a step to a neighbour that is worse is taken with a probability that falls.

    p = exp((v' - v) / T),   T falls by a factor each step

Kirkpatrick, Gelatt, Vecchi: Optimization by Simulated Annealing, Science 1983.
"""

from __future__ import annotations

import math

import numpy as np

from within.nas.search.history import History
from within.nas.search.limits import Limits
from within.nas.search.random_search import drawn
from within.nas.spaces import Space

MOST_TRIES = 200  # steps onto what was seen, after which the walk begins anew elsewhere


def search(
    space: Space,
    history: History,
    *,
    objective: str = "accuracy",
    temperature: float = 1.0,
    decay: float = 0.98,
    limits: Limits | None = None,
    seed: int = 0,
) -> History:
    """Evaluates neighbours until no queries are left, or no new architecture is found.

    Arguments:
        space: to walk in.
        history: what is evaluated is added to it; going back to one that was seen costs no query.
        objective: to be high.
        temperature: at the start, in units of the objective.
        decay: of the temperature, each step.
        limits: of costs; what was measured above them is not walked to.
        seed: of everything random.
    """
    generator = np.random.default_rng(seed)
    limits = limits or Limits(space, ())
    place, value, tries = None, 0.0, 0
    while history.left > 0:
        if place is None or tries >= MOST_TRIES:
            fresh = drawn(space, history, generator, 1, limits.allowed)
            if not fresh:
                break
            answer = history.ask(fresh)[0]
            if limits.held(answer):
                place, tries, value = fresh[0], 0, float(answer[objective])
            continue
        candidate = space.mutated(place, generator)
        if not limits.allowed([candidate])[0]:
            tries += 1
            continue
        tries = 0 if candidate not in history else tries + 1
        answer = history.ask([candidate])[0]
        limits.learn(history)
        gain = float(answer[objective]) - value
        if limits.held(answer) and (gain >= 0 or generator.random() < math.exp(gain / max(temperature, 1e-12))):
            place, value = candidate, value + gain
        temperature *= decay
    return history
