"""Search by a predictor: evaluate a few architectures, learn their order, look for others that it ranks first, repeat.

    random ones -> evaluate -> train -> inner search on scores -> evaluate its best -> train -> ...

Ning et al.: GATES, ECCV 2020, section 3.4. The inner search sees scores alone, which cost no query; see
`within.nas.search.inner`. With further objectives a predictor of each is learned; half of those evaluated next are the
best by the objective alone, the others are such that none other is foretold to beat.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from within.core.errors import WithinError
from within.nas.linear_cost import LinearCost
from within.nas.search.history import History
from within.nas.search.inner import INNER, Inner
from within.nas.search.limits import Limits
from within.nas.search.pareto import best_first
from within.nas.search.prior import combined
from within.nas.search.random_search import drawn
from within.nas.spaces import Architecture, Space

Score = Callable[[Sequence[Architecture]], Float[np.ndarray, " architectures"]]
Learn = Callable[[Sequence[Architecture], Float[np.ndarray, " architectures"], int], Score]

SPREAD = 10  # candidates by each weighing of the objectives, for each one that is evaluated
WEIGHINGS = 5
SAMPLE = 2_000


def search(
    space: Space,
    history: History,
    learn: Learn,
    *,
    objective: str = "accuracy",
    further: Mapping[str, int] = {},
    start: int = 20,
    each: int = 10,
    inner: Inner = "random",
    looked_at: int = 500,
    prior: Score | None = None,
    prior_weight: float = 1.0,
    limits: Limits | None = None,
    seed: int = 0,
) -> History:
    """Evaluates what the predictor ranks first until no queries are left, or nothing new is found.

    Arguments:
        space: to look in.
        history: what is evaluated is added to it.
        learn: gives a score function, of architectures, their objective, and the number of the round.
        objective: to be high.
        further: objectives beside it: 1 to be high, -1 to be low; foretold by a linear model of the genes.
        start: architectures evaluated before anything is learned.
        each: architectures evaluated in a round.
        inner: how the highest score is looked for; a name of `within.nas.search.inner.INNER`.
        looked_at: random architectures for each one that is picked, for the inner search "random".
        prior: a score that costs no query, see `within.nas.search.prior`: it chooses the first ones, which are random
            otherwise (and when costs have yet to be learned), and has a say in the later ones.
        prior_weight: of the prior beside the predictor; with 0 it chooses the first ones alone.
        limits: of costs; what is known or foretold to be above them is never evaluated.
        seed: of everything random.

    Raises:
        WithinError: for an unknown inner search.
    """
    if inner not in INNER:
        raise WithinError(f"There is no inner search {inner!r}", todo=f"choose one of {', '.join(INNER)}")
    generator = np.random.default_rng(seed)
    limits = limits or Limits(space, ())
    candidates = INNER[inner](space, history, limits.allowed, generator, looked_at)
    begin = min(start, history.left)
    if prior is None or limits.to_be_learned:
        history.ask(drawn(space, history, generator, begin, limits.allowed))
    else:
        history.ask(candidates(prior, begin))
    sample = [space.random(generator) for _ in range(SAMPLE)] if prior is not None else []
    number = 0
    while history.left > 0 and len(history):
        limits.learn(history)
        count = min(each, history.left)
        score = learn(history.architectures, history.values(objective), number)
        if prior is not None and prior_weight:
            score = combined(score, prior, prior_weight, sample)
        if further:
            picked = _beside(space, history, score, further, candidates, count)
        else:
            picked = candidates(score, count)
        if not picked:  # nothing is foretold to be within the limits: learn where they come nearest
            picked = limits.nearest(drawn(space, history, generator, looked_at), count)
        if not picked:
            break
        history.ask(picked)
        number += 1
    return history


def _beside(
    space: Space,
    history: History,
    score: Score,
    further: Mapping[str, int],
    candidates: Callable[[Score, int], list[Architecture]],
    count: int,
) -> list[Architecture]:
    """Returns the best by the score, and as many candidates that others are not foretold to beat, least crowded first.

    Candidates are the best by sums of objectives, in units of their range, with several weights.
    """
    best = candidates(score, (count + 1) // 2)
    costs = {name: _linear(space, history, name) for name in further}

    def foretold(architectures: Sequence[Architecture]) -> Float[np.ndarray, "architectures objectives"]:
        columns = [score(architectures), *(sign * costs[name](architectures) for name, sign in further.items())]
        return np.stack(columns, axis=1)

    known = foretold(history.architectures)
    scale = np.ptp(known, axis=0)
    scale[scale == 0] = 1
    pool: dict[Architecture, None] = {}
    for share in np.linspace(0, 1, WEIGHINGS):
        weights = np.array([1 - share, *[share / len(further)] * len(further)]) / scale
        found = candidates(functools.partial(_weighed, foretold, weights), SPREAD * count)
        pool.update(dict.fromkeys(found))
    others = [each for each in pool if each not in best]
    order = best_first(foretold(others)) if others else ()
    return [*best, *(others[row] for row in order)][:count]


def _weighed(
    foretold: Callable[[Sequence[Architecture]], np.ndarray], weights: np.ndarray, architectures: Sequence[Architecture]
) -> Float[np.ndarray, " architectures"]:
    found: Float[np.ndarray, " architectures"] = foretold(architectures) @ weights
    return found


def _linear(space: Space, history: History, name: str) -> Score:
    values = history.values(name)
    if len(values) < 3:
        return lambda architectures: np.zeros(len(architectures))
    return LinearCost(space, history.architectures, values)
