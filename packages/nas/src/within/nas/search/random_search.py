"""Random search: architectures drawn evenly, none twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from within.nas.search.history import History
from within.nas.spaces import Architecture, Space


def search(space: Space, history: History, *, seed: int = 0) -> History:
    """Evaluates random architectures until no queries are left, or no new architecture is found.

    Arguments:
        space: to draw from.
        history: what is evaluated is added to it.
        seed: of the drawing.
    """
    generator = np.random.default_rng(seed)
    while history.left > 0:
        found = drawn(space, history, generator, 1)
        if not found:
            break
        history.ask(found)
    return history


def drawn(
    space: Space,
    history: History,
    generator: Generator,
    count: int,
    allowed: Callable[[Architecture], bool] = lambda _: True,
) -> list[Architecture]:
    """Returns up to so many different random architectures that were not evaluated and are allowed."""
    found: dict[Architecture, None] = {}
    for _ in range(20 * count + 10_000):
        if len(found) == count:
            break
        candidate = space.random(generator)
        if candidate not in history and allowed(candidate):
            found[candidate] = None
    return list(found)
