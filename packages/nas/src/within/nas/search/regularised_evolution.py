"""Regularised evolution: the best of a few drawn from a population has a child, and the oldest one goes.

Real, Aggarwal, Huang, Le: Regularized Evolution for Image Classifier Architecture Search, AAAI 2019.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from within.nas.search.history import History
from within.nas.search.limits import Limits
from within.nas.spaces import Architecture, Space

MOST_TRIES = 10_000


def search(
    space: Space,
    history: History,
    *,
    objective: str = "accuracy",
    population: int = 100,
    drawn: int = 10,
    limits: Limits | None = None,
    seed: int = 0,
) -> History:
    """Evaluates children until no queries are left.

    Arguments:
        space: to draw and mutate in.
        history: what is evaluated is added to it; a child that was seen before costs no query.
        objective: to be high.
        population: how many live.
        drawn: from the population, of which the best within the limits has a child.
        limits: of costs.
        seed: of everything random.
    """
    generator = np.random.default_rng(seed)
    limits = limits or Limits(space, ())
    living: deque[tuple[Architecture, float]] = deque()
    tries = 0
    while history.left > 0 and tries < MOST_TRIES:
        if len(living) < population:
            candidate = space.random(generator)
        else:
            chosen = generator.choice(len(living), size=min(drawn, len(living)), replace=False)
            parent = max((living[number] for number in chosen), key=lambda each: each[1])
            candidate = space.mutated(parent[0], generator)
        if not limits.allowed([candidate])[0]:
            tries += 1
            continue
        tries = 0 if candidate not in history else tries + 1
        answer = history.ask([candidate])
        if not answer:
            break
        limits.learn(history)
        living.append((candidate, float(answer[0][objective]) if limits.held(answer[0]) else -math.inf))
        if len(living) > population:
            living.popleft()
    return history
