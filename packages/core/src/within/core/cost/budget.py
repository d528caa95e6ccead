"""`Budget`: a hard limit on a cost, absolute or relative to the uncompressed model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from within.core.cost.cost import Cost, Decision
from within.core.errors import WithinError
from within.core.graph import Graph


@dataclass(frozen=True)
class Budget:
    """A cost and its limit; give exactly one of `limit` (in the cost's unit) and `fraction` (of the dense model).

    Raises:
        WithinError: when both or neither are given, or when the number is not positive and finite.
    """

    cost: Cost
    limit: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.limit is None) == (self.fraction is None):
            raise WithinError(
                "A budget takes either a limit or a fraction", where=self.cost.name, todo="give exactly one of the two"
            )
        value = self.limit if self.limit is not None else self.fraction
        assert value is not None
        if not math.isfinite(value) or value <= 0:
            raise WithinError(f"A budget of {value} is impossible", where=self.cost.name, todo="give a positive number")

    def resolve(self, graph: Graph) -> float:
        """Returns the absolute limit for a dense graph, in the cost's unit."""
        if self.limit is not None:
            return float(self.limit)
        assert self.fraction is not None
        return self.fraction * float(self.cost(graph))


@dataclass(frozen=True)
class Achieved:
    """One line of a certificate: a budget, what the dense model costs, and what the compressed one costs."""

    name: str
    unit: str
    limit: float
    dense: float
    cost: float

    @property
    def met(self) -> bool:
        """Whether the limit holds."""
        return self.cost <= self.limit


def achieved(budgets: Sequence[Budget], graph: Graph, decision: Decision) -> tuple[Achieved, ...]:
    """Returns each budget with its cost before and after, exactly counted."""
    return tuple(
        Achieved(
            budget.cost.name,
            budget.cost.unit,
            budget.resolve(graph),
            float(budget.cost(graph)),
            float(budget.cost(graph, decision)),
        )
        for budget in budgets
    )
