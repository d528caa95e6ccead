"""NSGA-II: evolution of several objectives at once.

Parents are drawn by tournaments of two, by front and then by crowding; of parents and children together the best
survive. Deb et al., IEEE TEC 2002. What lies above a limit is behind everything that does not, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from within.nas.search.history import History, Objectives
from within.nas.search.limits import Limits
from within.nas.search.pareto import best_first
from within.nas.search.random_search import drawn
from within.nas.spaces import Architecture, Space

MOST_TRIES = 200


def search(
    space: Space,
    history: History,
    *,
    signs: Mapping[str, int],
    population: int = 50,
    crossing: float = 0.9,
    limits: Limits | None = None,
    seed: int = 0,
) -> History:
    """Evaluates generations until no queries are left, or no new child is found.

    Arguments:
        space: to draw, cross and mutate in.
        history: what is evaluated is added to it.
        signs: of each objective: 1 to be high, -1 to be low.
        population: how many survive.
        crossing: how likely a child has two parents.
        limits: of costs.
        seed: of everything random.
    """
    generator = np.random.default_rng(seed)
    limits = limits or Limits(space, ())
    living = drawn(space, history, generator, min(population, history.left), limits.allowed)
    history.ask(living)
    while history.left > 0 and living:
        limits.learn(history)
        place = {each: number for number, each in enumerate(_order(living, history, signs, limits))}
        children: dict[Architecture, None] = {}
        for _ in range(MOST_TRIES * population):
            if len(children) == min(population, history.left):
                break
            child = _parent(living, place, generator)
            if generator.random() < crossing:
                child = space.crossed(child, _parent(living, place, generator), generator)
            child = space.mutated(child, generator)
            if child not in history and child not in children and limits.allowed([child])[0]:
                children[child] = None
        if not children:
            break
        history.ask(list(children))
        living = _order([*living, *children], history, signs, limits)[:population]
    return history


def _parent(
    living: Sequence[Architecture], place: Mapping[Architecture, int], generator: np.random.Generator
) -> Architecture:
    one, two = (living[int(number)] for number in generator.integers(len(living), size=2))
    return min(one, two, key=place.__getitem__)


def _order(
    architectures: Sequence[Architecture], history: History, signs: Mapping[str, int], limits: Limits
) -> list[Architecture]:
    answers = history.ask(architectures)
    held = np.array([limits.held(each) for each in answers])
    rows: list[int] = []
    for group in (np.flatnonzero(held), np.flatnonzero(~held)):
        rows += group[best_first(vectors([answers[row] for row in group], signs))].tolist() if len(group) else []
    return [architectures[row] for row in rows]


def vectors(objectives: Sequence[Objectives], signs: Mapping[str, int]) -> Float[np.ndarray, "points objectives"]:
    """Returns the objectives as rows, all to be high."""
    rows = [[sign * float(each[name]) for name, sign in signs.items()] for each in objectives]
    return np.array(rows, dtype=np.float64).reshape(len(objectives), len(signs))
