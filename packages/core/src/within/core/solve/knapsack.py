"""The multiple-choice knapsack: one option for each group, the highest value within a budget.

    maximise  sum_l V_l(k_l)   subject to   sum_l C_l(k_l) <= B,   one k_l for each group l

This is the form of NVIDIA's SMCP (Humble et al., Soft masking for cost-constrained channel pruning, ECCV 2022), with
options of any shape: values and costs need not be monotone or integers. Three exact methods stand behind it; the linear
relaxation (bound.py) first removes the options that no better choice can contain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from within.core.errors import WithinError
from within.core.solve.bound import greedy, position_value, relaxed_value, segments, sieve
from within.core.solve.dominance import TooManyStates, merge_dominant
from within.core.solve.dynamic_programme import coarsen, dynamic_programme
from within.core.solve.multiple_choice import multiple_choice
from within.core.solve.options import Options, Table, checked_table, condense
from within.core.solve.solution import Solution, relative_gap

Method = Literal["auto", "dynamic_programme", "dominance", "milp"]

CELLS_PER_STATE = 150  # an entry of a dominance list costs 40 to 90 cells of the dynamic programme; at most half of it
WORK = 10_000_000  # entries that the dominance lists may look at where the dynamic programme would not be exact


def knapsack(
    values: Sequence[ArrayLike],
    costs: Sequence[ArrayLike],
    budget: ArrayLike,
    *,
    method: Method = "auto",
    units: int = 200_000,
    time_limit: float | None = None,
    group_names: Sequence[str] | None = None,
    budget_names: Sequence[str] | None = None,
) -> Solution:
    """Returns the best choice of one option a group within the budget. The budget is never broken, not by rounding.

    Arguments:
        values: per group, the value of each option, shape `(options,)`; groups may differ in size.
        costs: per group, the cost of each option, shape `(options,)`, in the unit of the budget; or
            `(options, budgets)` for several budgets at once.
        budget: the limit; or the limits, shape `(budgets,)`. Infinity is no limit.
        method: `"dynamic_programme"` over an integer cost axis (exact when the costs fit it, else feasible with a
            gap), `"dominance"` (exact for real costs), `"milp"` (HiGHS), or `"auto"`: dominance lists while they are
            cheaper than the dynamic programme. Several budgets always go to HiGHS.
        units: the longest cost axis of the dynamic programme, in cells.
        time_limit: seconds for HiGHS; a stopped search leaves a gap.
        group_names, budget_names: for error messages.

    Raises:
        InfeasibleBudget: when no choice fits, with the tightest limit and what holds it.
        WithinError: on bad input, as `checked_table` says, and for `"dominance"` on lists that outgrow the memory.
    """
    table = checked_table(values, costs, budget, group_names, budget_names)
    if method not in ("auto", "dynamic_programme", "dominance", "milp"):
        raise WithinError(f"There is no method {method!r}", todo="auto, dynamic_programme, dominance or milp")
    if units < 1:
        raise WithinError(f"The cost axis needs at least one cell, not {units}", where="units")
    if table.limits.size > 1:
        if method not in ("auto", "milp"):
            raise WithinError(f"{method} takes one budget, not {table.limits.size}", todo='use method="auto"')
        return multiple_choice(table, time_limit=time_limit)
    if method == "milp":
        return multiple_choice(table, time_limit=time_limit)
    # The best of each group, the cheapest among equals: it may fit as it is.
    highest = [int(np.lexsort((cost[:, 0], -value))[0]) for value, cost in zip(table.values, table.costs)]
    if table.costs_of(highest)[0] <= table.limits[0]:
        return _solution(table, highest, "unconstrained", proved=True)
    return _search(table, condense(table), method, units)


def _search(table: Table, options: Options, method: Method, units: int) -> Solution:
    lines = segments(options)
    position = greedy(options, lines)
    known = position_value(options, position)
    bound = relaxed_value(lines, options.capacity)
    incumbent = options.original(position)
    reduced = sieve(options, lines, known) if known < bound else None
    if reduced is None:  # no option can be part of anything better
        return _solution(table, incumbent, "relaxation" if method == "auto" else method, proved=True)
    short, exact = coarsen(reduced, units)
    cells = sum(cost.size for cost in short.cost) * (short.capacity + 1)
    if method != "dynamic_programme":
        work = WORK if method == "dominance" or not exact else min(WORK, cells // CELLS_PER_STATE)
        try:
            better = merge_dominant(reduced, segments(reduced), known, work)
            choice = incumbent if better is None else reduced.original(better)
            return _solution(table, choice, "dominance", proved=True)
        except TooManyStates:
            if method == "dominance":
                raise WithinError(
                    f"The dominance lists outgrew {WORK:,} entries",
                    todo='use method="auto": it turns to the dynamic programme and reports the gap',
                ) from None
    found = dynamic_programme(short)
    choice = short.original(found)
    if position_value(short, found) < known:
        choice = incumbent
    return _solution(table, choice, "dynamic_programme", proved=exact, bound=bound)


def _solution(table: Table, choice: Sequence[int], method: str, *, proved: bool, bound: float = 0.0) -> Solution:
    costs = table.costs_of(choice)
    if costs[0] > table.limits[0]:  # only when the least attainable cost equals the limit to the last bit
        choice = [int(cost[:, 0].argmin()) for cost in table.costs]
        costs = table.costs_of(choice)
    value = table.value_of(choice)
    upper_bound = value if proved else max(bound, value)
    return Solution(tuple(choice), value, costs, upper_bound, relative_gap(upper_bound, value), method)
