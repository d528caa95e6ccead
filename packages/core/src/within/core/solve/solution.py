"""What a solver returns, and the error it raises when no answer exists.

Every solution carries a proof of how good it is: `upper_bound` is a value that no feasible choice can exceed, and
`gap = (upper_bound - value) / |upper_bound|` is zero exactly when the solution is proved optimal.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from dataclasses import dataclass

from within.core.errors import WithinError


@dataclass(frozen=True)
class Solution:
    """One option for each group, within every budget.

    Attributes:
        choice: the chosen option of each group, as an index into that group's options.
        value: the sum of the chosen values, in the unit of the values.
        costs: the sum of the chosen costs, one entry a budget, each in the unit of that budget.
        upper_bound: no feasible choice has a higher value than this.
        gap: `(upper_bound - value) / |upper_bound|`; 0.0 when the solution is proved optimal.
        method: the algorithm that found it.
    """

    choice: tuple[int, ...]
    value: float
    costs: tuple[float, ...]
    upper_bound: float
    gap: float
    method: str

    @property
    def cost(self) -> float:
        """The cost under the only budget.

        Raises:
            WithinError: when there are several budgets; `costs` has them all.
        """
        if len(self.costs) != 1:
            raise WithinError(f"This solution has {len(self.costs)} budgets, not one", todo="read `costs`")
        return self.costs[0]


class InfeasibleBudget(WithinError):  # noqa: N818 (the name states the fact; every user error is a WithinError)
    """No choice fits the budget.

    Attributes:
        budget: the tightest limit, by name.
        limit: its value.
        minimum: the least that any choice attains there, while the other budgets hold where that is possible at all.
        holders: the groups that hold it up, as (name, their part of `minimum`), largest first.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        todo: str | None = None,
        budget: str = "",
        limit: float = float("nan"),
        minimum: float = float("nan"),
        holders: Sequence[tuple[str, float]] = (),
    ) -> None:
        super().__init__(what, where=where, todo=todo)
        self.budget, self.limit, self.minimum, self.holders = budget, limit, minimum, tuple(holders)


def infeasible(
    budget: str, limit: float, names: Sequence[str], parts: Sequence[float], others: str = ""
) -> InfeasibleBudget:
    """Returns the error for a budget whose least attainable cost is the sum of `parts`, one a group.

    Arguments:
        others: a clause on what else was held fixed, such as "while the other budgets hold".
    """
    minimum = math.fsum(parts)
    order = sorted(range(len(parts)), key=lambda group: -parts[group])
    holders = [(names[group], float(parts[group])) for group in order if parts[group] > 0]
    listed = ", ".join(f"{name} ({number(part)})" for name, part in holders[:5])
    more = f" and {len(holders) - 5} more" if len(holders) > 5 else ""
    clause = f" {others}" if others else ""
    enough = number(minimum, decimal.ROUND_CEILING)
    return InfeasibleBudget(
        f"No choice fits {budget}: the limit is {number(limit)}, the least attainable{clause} is {number(minimum)}",
        where=f"held by {listed}{more}" if holders else None,
        todo=f"raise the limit to at least {enough}, or allow cheaper options in these groups",
        budget=budget,
        limit=limit,
        minimum=minimum,
        holders=holders,
    )


def relative_gap(upper_bound: float, value: float) -> float:
    """Returns `(upper_bound - value) / |upper_bound|`, never negative, and 0.0 where both are equal."""
    difference = upper_bound - value
    if difference <= 0.0:
        return 0.0
    return difference / max(abs(upper_bound), abs(value))


def number(value: float, rounding: str = decimal.ROUND_HALF_EVEN) -> str:
    """Returns a number for a message: integers whole, others to nine digits."""
    if float(value).is_integer() and abs(value) < 1e18:
        return f"{int(value):,}"
    if not math.isfinite(value):
        return str(value)
    return f"{decimal.Context(prec=9, rounding=rounding).create_decimal_from_float(value).normalize()}"
