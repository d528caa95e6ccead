"""Random search: architectures drawn evenly, none twice."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from within.nas.search.history import History
from within.nas.search.limits import Allowed, Limits, everything_allowed
from within.nas.spaces import Architecture, Space

FULL_PASS = 4  # a space of fewer than so many times the architectures asked for is gone through
AT_ONCE = 64  # evaluated together, so that several workers have something to do


def search(space: Space, history: History, *, limits: Limits | None = None, seed: int = 0) -> History:
    """Evaluates random architectures until no queries are left, or no new architecture is found.

    Arguments:
        space: to draw from.
        history: what is evaluated is added to it.
        limits: of costs.
        seed: of the drawing.
    """
    generator = np.random.default_rng(seed)
    limits = limits or Limits(space, ())
    while history.left > 0:
        found = drawn(space, history, generator, min(AT_ONCE, history.left), limits.allowed)
        if not found:
            break
        history.ask(found)
        limits.learn(history)
    return history


def drawn(
    space: Space,
    history: History,
    generator: Generator,
    count: int,
    allowed: Allowed = everything_allowed,
) -> list[Architecture]:
    """Returns up to so many different random architectures that were not evaluated and are allowed."""
    if FULL_PASS * count >= space.combinations:  # drawing would come across the same ones again and again
        everything = [each for each in space.all() if each not in history]
        left = [everything[row] for row in generator.permutation(len(everything))]
        fine = allowed(left) if left else ()
        return [each for each, one in zip(left, fine, strict=True) if one][:count]
    found: dict[Architecture, None] = {}
    tries = 20 * count + 10_000
    while len(found) < count and tries > 0:
        drawn_now = [space.random(generator) for _ in range(min(max(count - len(found), AT_ONCE), tries))]
        tries -= len(drawn_now)
        new = [each for each in dict.fromkeys(drawn_now) if each not in history and each not in found]
        if new:
            found.update((each, None) for each, fine in zip(new, allowed(new).tolist(), strict=True) if fine)
    return list(found)[:count]
