"""Inner searches: architectures with the highest scores, which cost nothing, among those not yet evaluated.

random       the best of many random ones
evolution    the best ones found by mutating the best
annealing    the best ones on the way of several walks whose steps down get rarer
all          the best of the whole space, where it is small
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from within.nas.search.history import History
from within.nas.search.limits import Allowed
from within.nas.search.random_search import drawn
from within.nas.spaces import Architecture, Space

Score = Callable[[Sequence[Architecture]], Float[np.ndarray, " architectures"]]
Find = Callable[[Score, int], list[Architecture]]
Inner = Literal["random", "evolution", "annealing", "all"]
POPULATION, PARENTS, STEPS, CHILDREN = 20, 5, 50, 20
WALKS, DECAY = 20, 0.95


def _random(space: Space, history: History, allowed: Allowed, generator: Generator, looked_at: int) -> Find:
    def find(score: Score, count: int) -> list[Architecture]:
        return highest(score, drawn(space, history, generator, looked_at * count, allowed), count)

    return find


def _all(space: Space, history: History, allowed: Allowed, generator: Generator, looked_at: int) -> Find:
    everything = list(space.all())

    def find(score: Score, count: int) -> list[Architecture]:
        left = [each for each in everything if each not in history]
        fine = allowed(left) if left else ()
        return highest(score, [each for each, one in zip(left, fine, strict=True) if one], count)

    return find


def _evolution(space: Space, history: History, allowed: Allowed, generator: Generator, looked_at: int) -> Find:
    def find(score: Score, count: int) -> list[Architecture]:
        living = [*history.architectures[-POPULATION:], *drawn(space, history, generator, POPULATION, allowed)]
        seen = dict(zip(living, score(living).tolist(), strict=True))
        for _ in range(STEPS):
            parents = sorted(seen, key=lambda each: -seen[each])[:PARENTS]
            children = {
                space.mutated(parents[int(generator.integers(len(parents)))], generator) for _ in range(CHILDREN)
            }
            _look(sorted(children - seen.keys()), seen, score, allowed)
        return _fresh(seen, history, allowed, count)

    return find


def _annealing(space: Space, history: History, allowed: Allowed, generator: Generator, looked_at: int) -> Find:
    def find(score: Score, count: int) -> list[Architecture]:
        places = [*history.architectures[-WALKS // 2 :], *drawn(space, history, generator, WALKS // 2, allowed)]
        seen = dict(zip(places, score(places).tolist(), strict=True))
        temperature = float(np.std(list(seen.values()))) or 1.0
        for _ in range(STEPS):
            steps = [space.mutated(place, generator) for place in places]
            _look(sorted(set(steps) - seen.keys()), seen, score, allowed)
            for number, step in enumerate(steps):
                gain = seen.get(step, -np.inf) - seen[places[number]]
                if gain >= 0 or generator.random() < np.exp(gain / temperature):
                    places[number] = step
            temperature *= DECAY
        return _fresh(seen, history, allowed, count)

    return find


INNER: dict[str, Callable[[Space, History, Allowed, Generator, int], Find]] = {
    "random": _random,
    "evolution": _evolution,
    "annealing": _annealing,
    "all": _all,
}


def highest(score: Score, architectures: Sequence[Architecture], count: int) -> list[Architecture]:
    """Returns so many architectures with the highest scores, the highest first."""
    if not architectures:
        return []
    order = np.argsort(-score(architectures), kind="stable")
    return [architectures[row] for row in order[:count]]


def _look(new: Sequence[Architecture], seen: dict[Architecture, float], score: Score, allowed: Allowed) -> None:
    """Adds the scores of what is allowed to those seen."""
    fine = [each for each, one in zip(new, allowed(new), strict=True) if one] if new else []
    if fine:
        seen.update(zip(fine, score(fine).tolist(), strict=True))


def _fresh(seen: dict[Architecture, float], history: History, allowed: Allowed, count: int) -> list[Architecture]:
    fresh = sorted((each for each in seen if each not in history), key=lambda each: -seen[each])
    fine = allowed(fresh) if fresh else ()
    return [each for each, one in zip(fresh, fine, strict=True) if one][:count]
