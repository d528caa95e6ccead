"""Hard limits of costs: known ones are kept before anything is evaluated, others are foretold from what was.

A cost that is known in advance (a closed form, a table) forbids architectures above its limit. One that is measured
with the evaluation (latency on a device) is foretold by a linear model of the genes, which learns from all evaluated
architectures; what is foretold above the limit is not evaluated, and what was measured above it is no result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.nas.linear_cost import LinearCost
from within.nas.search.history import History
from within.nas.spaces import Architecture, Space

CostFunction = Callable[[Sequence[Architecture]], Float[np.ndarray, " architectures"]]
Allowed = Callable[[Sequence[Architecture]], Bool[np.ndarray, " architectures"]]
ENUMERATED, STARTS, PAIRS, LEAST_KNOWN = 20_000, 2, 500, 10


def everything_allowed(architectures: Sequence[Architecture]) -> Bool[np.ndarray, " architectures"]:
    """Allows all."""
    return np.ones(len(architectures), dtype=bool)


@dataclass(frozen=True)
class Limit:
    """The most that a cost may be.

    Attributes:
        name: of the cost, as evaluations call it.
        most: the limit.
        cost: of architectures, where it is known without an evaluation.
    """

    name: str
    most: float
    cost: CostFunction | None = None


class Limits:
    """Several limits, all of which hold.

    Arguments:
        space: of the architectures.
        limits: see `Limit`.

    Raises:
        WithinError: when no architecture can meet a known cost's limit, with the least there is.
    """

    def __init__(self, space: Space, limits: Sequence[Limit]) -> None:
        self.space, self.limits = space, tuple(limits)
        self._foretold: dict[str, LinearCost] = {}
        self._learned_from = 0
        for limit in self.limits:
            if limit.cost is not None:
                least = least_cost(space, limit.cost)
                if least > limit.most:
                    raise WithinError(
                        f"No architecture of {space.name} meets {limit.name} <= {limit.most:.10g}: the least is "
                        f"{least:.10g}",
                        where=f"the limit of {limit.name}",
                        todo=f"raise it to {least:.10g} or more",
                    )

    def allowed(self, architectures: Sequence[Architecture]) -> Bool[np.ndarray, " architectures"]:
        """Returns whether each may be evaluated: known costs are within limits, foretold ones too."""
        found = everything_allowed(architectures)
        for limit in self.limits:
            rows = np.flatnonzero(found).tolist()
            if not rows:
                break
            chosen = [architectures[row] for row in rows]
            if limit.cost is not None:
                found[rows] = limit.cost(chosen) <= limit.most
            elif limit.name in self._foretold:
                found[rows] = self._foretold[limit.name](chosen) <= limit.most
        return found

    @property
    def to_be_learned(self) -> bool:
        """Whether a limited cost can be neither computed nor foretold yet."""
        return any(limit.cost is None and limit.name not in self._foretold for limit in self.limits)

    def nearest(self, architectures: Sequence[Architecture], count: int) -> list[Architecture]:
        """Returns so many that known costs allow and whose foretold costs exceed the limits the least."""
        excess = np.zeros(len(architectures))
        for limit in self.limits:
            if limit.cost is not None:
                excess[limit.cost(architectures) > limit.most] = np.inf
            elif limit.name in self._foretold:
                over = self._foretold[limit.name](architectures) - limit.most
                excess = np.maximum(excess, over / (abs(limit.most) or 1.0))
        order = np.argsort(excess, kind="stable")[:count]
        return [architectures[row] for row in order if np.isfinite(excess[row])]

    def learn(self, history: History) -> None:
        """Learns the costs that are not known from what was evaluated, when that has grown by a tenth."""
        if len(history) < max(LEAST_KNOWN, 1.1 * self._learned_from):
            return
        self._learned_from = len(history)
        for limit in self.limits:
            if limit.cost is None:
                measured = history.values(limit.name)
                if np.ptp(measured) > 0:
                    self._foretold[limit.name] = LinearCost(self.space, history.architectures, measured)

    def held(self, objectives: Mapping[str, float]) -> bool:
        """Whether what was measured is within the limits; those of known costs hold for all that was evaluated."""
        return all(objectives[limit.name] <= limit.most for limit in self.limits if limit.cost is None)


def least_cost(space: Space, cost: CostFunction) -> float:
    """Returns the least cost of a space.

    Small spaces are gone through. In others one gene after the other is improved, then pairs of genes drawn at random,
    from several starts: the least of costs that grow with each gene, and very likely that of others.
    """
    if space.combinations <= ENUMERATED:
        everything = list(space.all())
        return float(cost(everything).min()) if everything else float("inf")
    generator = np.random.default_rng(0)
    best = float("inf")
    for _ in range(STARTS):
        place = space.random(generator)
        value = float(cost([place])[0])
        while True:
            before = value
            for number in range(len(space.genes)):
                near = [each for each in space.neighbours(place) if each[number] != place[number]]
                values = cost(near) if near else np.array([np.inf])
                if values.min() < value:
                    place, value = near[int(values.argmin())], float(values.min())
            if value == before:  # two genes at once, since an edge may have to move
                near = [space.mutated(place, generator, genes=2) for _ in range(PAIRS)]
                values = cost(near)
                if values.min() >= value:
                    break
                place, value = near[int(values.argmin())], float(values.min())
        best = min(best, value)
    return best


def best_within(
    history: History, objective: str, limits: Limits | None = None
) -> tuple[Architecture, Mapping[str, float]] | None:
    """Returns the evaluated architecture with the highest objective within the limits; None when there is none."""
    rows = [row for row, found in enumerate(history.objectives) if limits is None or limits.held(found)]
    if not rows:
        return None
    best = max(rows, key=lambda row: history.objectives[row][objective])
    return history.architectures[best], history.objectives[best]


def values_within(history: History, objective: str, limits: Limits | None = None) -> NDArray[np.float64]:
    """Returns the best objective within the limits after each query; -inf while there is none."""
    values = [found[objective] if limits is None or limits.held(found) else -np.inf for found in history.objectives]
    return np.maximum.accumulate(np.array(values, dtype=np.float64))
