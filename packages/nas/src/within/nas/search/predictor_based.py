"""Search by a predictor: evaluate a few architectures, learn their order, look for others that it ranks first, repeat.

    random ones -> evaluate -> train -> inner search on scores -> evaluate its best -> train -> ...

Ning et al.: GATES, ECCV 2020, section 3.4. The inner search sees scores alone, which cost no query: the best of many
random architectures, evolution of scores, or all architectures where the space is small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from within.core.errors import WithinError
from within.nas.search.history import History
from within.nas.search.random_search import drawn
from within.nas.spaces import Architecture, Space

Score = Callable[[Sequence[Architecture]], Float[np.ndarray, " architectures"]]
Learn = Callable[[Sequence[Architecture], Float[np.ndarray, " architectures"], int], Score]
Inner = Literal["random", "evolution", "all"]
INNER = ("random", "evolution", "all")
POPULATION, PARENTS, STEPS, CHILDREN = 20, 5, 50, 20


def search(
    space: Space,
    history: History,
    learn: Learn,
    *,
    objective: str = "accuracy",
    start: int = 20,
    each: int = 10,
    inner: Inner = "random",
    looked_at: int = 500,
    first: Score | None = None,
    allowed: Callable[[Architecture], bool] = lambda _: True,
    seed: int = 0,
) -> History:
    """Evaluates what the predictor ranks first until no queries are left, or nothing new is found.

    Arguments:
        space: to look in.
        history: what is evaluated is added to it.
        learn: gives a score function, of architectures, their objective, and the number of the round.
        objective: to be high.
        start: architectures evaluated before anything is learned.
        each: architectures evaluated in a round.
        inner: how the highest score is looked for.
        looked_at: random architectures for each one that is picked, for the inner search "random".
        first: a score to begin with, such as a cheap label; otherwise the first ones are random.
        allowed: hard limits; what is not allowed is never evaluated.
        seed: of everything random.

    Raises:
        WithinError: for an unknown inner search.
    """
    if inner not in INNER:
        raise WithinError(f"There is no inner search {inner!r}", todo=f"choose one of {', '.join(INNER)}")
    generator = np.random.default_rng(seed)
    everything = [found for found in space.all() if allowed(found)] if inner == "all" else None

    def candidates(score: Score, count: int) -> list[Architecture]:
        if everything is not None:
            return _highest(score, [found for found in everything if found not in history], count)
        if inner == "random":
            return _highest(score, drawn(space, history, generator, looked_at * count, allowed), count)
        return _evolved(space, history, allowed, score, generator, count)

    if first is not None:
        history.ask(candidates(first, min(start, history.left)))
    else:
        history.ask(drawn(space, history, generator, min(start, history.left), allowed))
    number = 0
    while history.left > 0:
        score = learn(history.architectures, history.values(objective), number)
        picked = candidates(score, min(each, history.left))
        if not picked:
            break
        history.ask(picked)
        number += 1
    return history


def _highest(score: Score, architectures: Sequence[Architecture], count: int) -> list[Architecture]:
    if not architectures:
        return []
    order = np.argsort(-score(architectures), kind="stable")
    return [architectures[row] for row in order[:count]]


def _evolved(
    space: Space,
    history: History,
    allowed: Callable[[Architecture], bool],
    score: Score,
    generator: Generator,
    count: int,
) -> list[Architecture]:
    """Returns the best that evolution of scores finds, beginning at the best evaluated ones and random ones."""
    living = [*history.architectures[-POPULATION:], *drawn(space, history, generator, POPULATION, allowed)]
    seen: dict[Architecture, float] = dict(zip(living, score(living).tolist(), strict=True))
    for _ in range(STEPS):
        parents = sorted(seen, key=lambda each: -seen[each])[:PARENTS]
        children: Iterable[Architecture] = {
            space.mutated(parents[int(generator.integers(len(parents)))], generator) for _ in range(CHILDREN)
        }
        new = [child for child in sorted(children) if child not in seen and allowed(child)]
        if new:
            seen.update(zip(new, score(new).tolist(), strict=True))
    fresh = [each for each in seen if each not in history]
    return sorted(fresh, key=lambda each: -seen[each])[:count]
