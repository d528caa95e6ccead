"""The options of a multiple-choice problem: checked input, and its exact integer form.

Real costs become integers on a grid of 2^-61 of the budget (or finer), rounded up, and the budget is rounded down. Sums
of integers are exact, so a choice that fits on the grid fits the true budget, whatever the order of addition. The grid
divides every cost of 53 significant bits that is not tiny beside the budget, so in practice nothing is rounded at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from within.core.errors import WithinError
from within.core.solve.solution import infeasible

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """Checked input: per group the values `(options,)` and costs `(options, budgets)`, and the limits `(budgets,)`."""

    values: tuple[Floats, ...]
    costs: tuple[Floats, ...]
    limits: Floats
    group_names: tuple[str, ...]
    budget_names: tuple[str, ...]

    def value_of(self, choice: Sequence[int]) -> float:
        """Returns the value of a choice, rounded once."""
        return math.fsum(float(values[option]) for values, option in zip(self.values, choice))

    def costs_of(self, choice: Sequence[int]) -> tuple[float, ...]:
        """Returns the cost of a choice under each budget, rounded once."""
        rows = [costs[option] for costs, option in zip(self.costs, choice)]
        return tuple(math.fsum(float(row[budget]) for row in rows) for budget in range(len(self.limits)))


@dataclass(frozen=True)
class Options:
    """Undominated options under one budget, on the integer grid.

    In each group the options are sorted by cost, and a higher cost always buys a higher value. The cheapest option of
    each group costs 0: what it costs in truth is already taken off `capacity`.

    Attributes:
        index: per group, the option's index in the table.
        value: per group, the values, ascending.
        cost: per group, the costs in grid units, ascending from 0.
        capacity: the budget in grid units, less the cheapest option of every group.
    """

    index: tuple[Integers, ...]
    value: tuple[Floats, ...]
    cost: tuple[Integers, ...]
    capacity: int

    def select(self, keep: Sequence[NDArray[np.bool_]]) -> Options:
        """Returns the problem with only the options where `keep` is true (at least one in each group).

        Where the cheapest option of a group goes, its successor's cost comes off the capacity.
        """
        cost = [costs[mask] for costs, mask in zip(self.cost, keep)]
        capacity = self.capacity - sum(int(costs[0]) for costs in cost)
        return Options(
            tuple(index[mask] for index, mask in zip(self.index, keep)),
            tuple(value[mask] for value, mask in zip(self.value, keep)),
            tuple(costs - costs[0] for costs in cost),
            capacity,
        )

    def original(self, position: Sequence[int]) -> tuple[int, ...]:
        """Returns the table's option indices for positions in this problem."""
        return tuple(int(index[place]) for index, place in zip(self.index, position))


def checked_table(
    values: Sequence[ArrayLike],
    costs: Sequence[ArrayLike],
    limits: ArrayLike,
    group_names: Sequence[str] | None = None,
    budget_names: Sequence[str] | None = None,
) -> Table:
    """Returns the input as float64 arrays, or says what is wrong with it.

    Arguments:
        values: per group, the values of its options, shape `(options,)`.
        costs: per group, the costs of its options, shape `(options,)`, or `(options, budgets)` for several budgets.
        limits: the budget, a number, or one for each budget; infinity where there is none.

    Raises:
        WithinError: on empty groups, shapes that do not fit, costs or values that are not finite, negative limits.
    """
    limit = _floats(limits, "the limits")
    single = limit.ndim == 0
    limit = limit.reshape(-1)
    if len(values) == 0 or len(values) != len(costs):
        raise WithinError(f"There are {len(values)} groups of values and {len(costs)} groups of costs")
    if limit.size == 0 or np.isnan(limit).any() or (limit < 0).any():
        raise WithinError(f"A limit must be a number of at least 0, not {limit.tolist()}", where="the limits")
    names = _names(group_names, len(values), "group")
    budgets = _names(budget_names, limit.size, "budget")
    value_arrays, cost_arrays = [], []
    for name, group_values, group_costs in zip(names, values, costs):
        value, cost = _floats(group_values, f"the values of {name}"), _floats(group_costs, f"the costs of {name}")
        if cost.ndim == 1 and (single or limit.size == 1):
            cost = cost[:, None]
        if value.ndim != 1 or value.size == 0:
            raise WithinError("A group needs a list of at least one option", where=name)
        if cost.shape != (value.size, limit.size):
            raise WithinError(
                f"{value.size} options under {limit.size} budgets need costs of shape "
                f"{(value.size, limit.size)}, not {cost.shape}",
                where=name,
            )
        for what, array in (("value", value), ("cost", cost)):
            if not np.isfinite(array).all():
                option = int(np.argwhere(~np.isfinite(array))[0][0])
                raise WithinError(f"The {what} of option {option} is {array[option]}, not a finite number", where=name)
        value_arrays.append(value)
        cost_arrays.append(cost)
    return Table(tuple(value_arrays), tuple(cost_arrays), limit, names, budgets)


def condense(table: Table) -> Options:
    """Returns the undominated options under the only budget, on the integer grid.

    An option is dominated when another of its group has a value as high at a cost as low, or when it does not fit
    even with the cheapest option everywhere else.

    Raises:
        InfeasibleBudget: when even the cheapest options break the budget.
    """
    limit = float(table.limits[0])
    minima = [float(cost.min()) for cost in table.costs]
    least = math.fsum(minima)
    if least > limit:
        raise infeasible(table.budget_names[0], limit, table.group_names, minima)
    highest = math.fsum(float(cost.max()) for cost in table.costs)
    limit = min(limit, math.nextafter(highest, math.inf))  # the sum may have been rounded down
    # What is over the budget in any company goes first, so that it does not coarsen the grid for the rest.
    slack = (limit - least) + 1e-9 * (abs(limit) + abs(least))
    fits = [cost[:, 0] <= low + slack for cost, low in zip(table.costs, minima)]
    scale = max(abs(limit), *(float(np.abs(cost[mask, 0]).max()) for cost, mask in zip(table.costs, fits)))
    bits = 61 if min(minima) >= 0 else 60 - len(minima).bit_length()
    shift = bits - math.frexp(scale)[1] if scale > 0 else 0
    index, value, cost = [], [], []
    capacity = math.floor(math.ldexp(limit, shift))
    for group_values, group_costs, mask in zip(table.values, table.costs, fits):
        where = np.flatnonzero(mask)
        grid = np.ceil(np.ldexp(group_costs[where, 0], shift)).astype(np.int64)
        order = np.lexsort((-group_values[where], grid))  # by cost, then the best value first
        where, grid = where[order], grid[order]
        best_before = np.concatenate(([-np.inf], np.maximum.accumulate(group_values[where])[:-1]))
        keep = group_values[where] > best_before
        index.append(where[keep])
        value.append(group_values[where][keep])
        cost.append(grid[keep] - grid[0])
        capacity -= int(grid[0])
    capacity = max(0, capacity)  # a minimum that fits only by the last bit of the sum
    keep_options = [costs <= capacity for costs in cost]
    return Options(tuple(index), tuple(value), tuple(cost), capacity).select(keep_options)


def _floats(array: ArrayLike, what: str) -> Floats:
    try:
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WithinError(f"Not an array of numbers: {error}", where=what) from error


def _names(names: Sequence[str] | None, count: int, kind: str) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{kind} {position}" for position in range(count)) if count > 1 else (f"the {kind}",)
    if len(names) != count:
        raise WithinError(f"There are {count} {kind}s and {len(names)} names for them", where=f"{kind}_names")
    return tuple(str(name) for name in names)
