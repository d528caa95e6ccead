"""Simulated annealing: a step to a neighbour that is worse is taken with a probability that falls.

    p = exp((v' - v) / T),   T falls by a factor each step

Kirkpatrick, Gelatt, Vecchi: Optimization by Simulated Annealing, Science 1983.
"""

from __future__ import annotations

import math

import numpy as np

from within.nas.search.history import History
from within.nas.search.random_search import drawn
from within.nas.spaces import Space

MOST_TRIES = 200  # steps onto what was seen, after which the walk begins anew elsewhere


def search(
    space: Space, history: History, *, objective: str = "accuracy", temperature: float = 1.0, decay: float = 0.98,
    seed: int = 0,
) -> History:  # fmt: skip
    """Evaluates neighbours until no queries are left, or no new architecture is found.

    Arguments:
        space: to walk in.
        history: what is evaluated is added to it; going back to one that was seen costs no query.
        objective: to be high.
        temperature: at the start, in units of the objective.
        decay: of the temperature, each step.
        seed: of everything random.
    """
    generator = np.random.default_rng(seed)
    place, value, tries = None, 0.0, 0
    while history.left > 0:
        if place is None or tries >= MOST_TRIES:
            fresh = drawn(space, history, generator, 1)
            if not fresh:
                break
            place, tries = fresh[0], 0
            value = float(history.ask(fresh)[0][objective])
            continue
        candidate = space.mutated(place, generator)
        tries = 0 if candidate not in history else tries + 1
        gain = float(history.ask([candidate])[0][objective]) - value
        if gain >= 0 or generator.random() < math.exp(gain / max(temperature, 1e-12)):
            place, value = candidate, value + gain
        temperature *= decay
    return history
