"""Multiple-choice problems under several budgets at once, as a mixed-integer programme for HiGHS.

    maximise  sum_gk V_gk x_gk   subject to   sum_k x_gk = 1  for each group,
                                              sum_gk C_gkr x_gk <= B_r  for each budget,   x binary

(Huangfu and Hall, Parallelizing the dual revised simplex method, Mathematical Programming Computation 10, 2018, for the
solver.) HiGHS works with tolerances; a choice that breaks a budget by less than its tolerance is cut off and the
programme solved again, so no result is over budget.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csr_array

from within.core.errors import WithinError
from within.core.solve.options import Floats, Table
from within.core.solve.silence import silent_standard_output
from within.core.solve.solution import InfeasibleBudget, Solution, infeasible, number, relative_gap

ROW_SCALE = 1000.0  # limits are scaled to this, so that the solver's absolute tolerance of 1e-6 is 1e-9 of a limit
OBJECTIVE_SCALE = 1e5
CUTS = 50


def multiple_choice(table: Table, *, time_limit: float | None = None) -> Solution:
    """Returns the best choice under all budgets, with the solver's own proof as the upper bound.

    Arguments:
        table: the checked options, values and limits.
        time_limit: seconds; when it runs out the best choice so far is returned with its gap.

    Raises:
        InfeasibleBudget: when no choice fits, with the tightest limit and what holds it.
        WithinError: when the time runs out before any choice is found.
    """
    finite = np.isfinite(table.limits)
    check_each_budget(table)
    sizes = [values.size for values in table.values]
    # Only differences within a group matter.
    best = [float(values.max()) for values in table.values]
    losses = np.concatenate([high - values for high, values in zip(best, table.values)])
    scale = _objective_unit(losses)
    one_each = _one_each(sizes)
    fits = _fitting(table, finite)
    scaled, limits = scaled_rows(np.concatenate(table.costs)[:, finite].T * fits, table.limits[finite])
    constraints = [LinearConstraint(one_each, 1.0, 1.0)]
    if len(limits):
        constraints.append(LinearConstraint(csr_array(scaled), -np.inf, limits))
    bound = np.inf
    for _ in range(CUTS):
        result = solve_milp(losses / scale, constraints, np.ones(losses.size), Bounds(0.0, fits), time_limit)
        if result.status == 2:
            raise conflict(table, time_limit)
        if result.x is None:
            raise WithinError("No choice was found in time", where=f"time_limit={time_limit}", todo="allow more time")
        chosen = np.split(result.x, np.cumsum(sizes)[:-1])
        choice = tuple(int(part.argmax()) for part in chosen)
        dual = result.mip_dual_bound if result.mip_dual_bound is not None else result.fun
        bound = min(bound, math.fsum(best) - float(dual) * scale)
        costs = table.costs_of(choice)
        if all(cost <= limit for cost, limit in zip(costs, table.limits)):
            value = table.value_of(choice)
            # A proof within the solver's own rounding is a proof.
            upper_bound = value if bound - value <= 1e-9 * max(float(losses.max()), scale) else bound
            return Solution(choice, value, costs, upper_bound, relative_gap(upper_bound, value), "milp")
        taken = np.zeros(losses.size)
        taken[np.cumsum([0, *sizes[:-1]]) + np.asarray(choice)] = 1.0
        constraints.append(LinearConstraint(csr_array(taken[None]), -np.inf, len(sizes) - 1.0))
    raise WithinError(
        f"HiGHS returned {CUTS} choices that break a budget by less than its tolerance", todo="raise the limits by 1e-9"
    )


def solve_milp(
    objective: Floats,
    constraints: list[LinearConstraint],
    integrality: Floats,
    bounds: Bounds,
    time_limit: float | None = None,
) -> OptimizeResult:
    """Returns SciPy's result of minimising `objective @ x`, searched to a gap of zero.

    Raises:
        WithinError: when HiGHS itself fails.
    """
    limits = {} if time_limit is None else {"time_limit": float(time_limit)}
    with silent_standard_output():
        result = milp(
            objective,
            integrality=integrality,
            bounds=bounds,
            constraints=constraints,
            options={"mip_rel_gap": 0.0, **limits},
        )
    if result.status not in (0, 1, 2):
        raise WithinError(f"HiGHS stopped: {result.message}", where="the integer programme")
    return result


def scaled_rows(rows: Floats, limits: Floats) -> tuple[Floats, Floats]:
    """Returns rows `(rows, columns)` and limits with every row multiplied so that its limit is `ROW_SCALE`."""
    size = np.where(limits > 0, limits, np.abs(rows).max(axis=1, initial=0.0))
    size = np.where(size > 0, size, 1.0)
    return rows / size[:, None] * ROW_SCALE, limits / size * ROW_SCALE


def check_each_budget(table: Table) -> None:
    """Checks that every budget can be met when it is the only one.

    Raises:
        InfeasibleBudget: for the budget that is missed by the largest factor.
    """
    minima = np.asarray([cost.min(axis=0) for cost in table.costs])
    limits = table.limits.tolist()
    over = [_excess(math.fsum(column), limit) for column, limit in zip(minima.T.tolist(), limits)]
    budget = int(np.argmax(over))
    if over[budget] > 0:
        raise infeasible(table.budget_names[budget], limits[budget], table.group_names, minima[:, budget].tolist())


def conflict(table: Table, time_limit: float | None = None) -> InfeasibleBudget:
    """Returns the error for budgets that can each be met, but not together.

    The tightest is the one that helps most when it alone gives way: its least cost under all others, relative to its
    limit, is the smallest of all.
    """
    best: tuple[float, int, float, list[float]] | None = None
    sizes = [values.size for values in table.values]
    everything = np.concatenate(table.costs)
    for budget in np.flatnonzero(np.isfinite(table.limits)).tolist():
        others = np.isfinite(table.limits) & (np.arange(table.limits.size) != budget)
        fits = _fitting(table, others)
        scaled, limits = scaled_rows(everything[:, others].T * fits, table.limits[others])
        cost = everything[:, budget]
        constraints = [LinearConstraint(_one_each(sizes), 1.0, 1.0)]
        if len(limits):
            constraints.append(LinearConstraint(csr_array(scaled), -np.inf, limits))
        scale = float(np.abs(cost).max()) or 1.0
        result = solve_milp(cost / scale, constraints, np.ones(cost.size), Bounds(0.0, fits), time_limit)
        if result.x is None:
            continue
        parts = [float(c[x.argmax(), budget]) for c, x in zip(table.costs, np.split(result.x, np.cumsum(sizes)[:-1]))]
        excess = _excess(math.fsum(parts), float(table.limits[budget]))
        if best is None or excess < best[0]:
            best = (excess, budget, float(table.limits[budget]), parts)
    if best is None:
        named = ", ".join(f"{name} ({number(limit)})" for name, limit in zip(table.budget_names, table.limits))
        return InfeasibleBudget(
            f"Each budget can be met alone, but no choice meets them together, even without any one of them: {named}",
            todo="raise at least two of the limits",
        )
    _, budget, limit, parts = best
    return infeasible(table.budget_names[budget], limit, table.group_names, parts, "while the other budgets hold")


def _objective_unit(losses: Floats) -> float:
    """Returns what to divide the objective by.

    HiGHS stops at an absolute gap of 1e-6, so real objectives are made large. Whole ones stay whole: HiGHS sees that,
    and rounds its bounds, which decides hard cases.
    """
    if (losses == np.rint(losses)).all() and losses.max() < 2.0**53:
        return float(np.gcd.reduce(losses.astype(np.int64))) or 1.0
    return float(losses.max()) / OBJECTIVE_SCALE


def _fitting(table: Table, budgets: NDArray[np.bool_]) -> Floats:
    """Returns 1.0 for each option that fits these budgets beside the cheapest options of the other groups, else 0.0.

    An option far over a budget would spoil the scale of its row.
    """
    minima = np.asarray([cost.min(axis=0) for cost in table.costs])
    least = minima.sum(axis=0)
    slack = table.limits - least + 1e-9 * (np.abs(table.limits) + np.abs(least))
    fits = [(cost - low <= slack)[:, budgets].all(axis=1) for cost, low in zip(table.costs, minima)]
    return np.concatenate(fits).astype(np.float64)


def _excess(cost: float, limit: float) -> float:
    """Returns by how much a cost is over its limit, relative to the limit; 0.0 when it is not."""
    if cost <= limit:
        return 0.0
    return (cost - limit) / limit if limit > 0 else math.inf


def _one_each(sizes: list[int]) -> csr_array:
    columns = np.arange(sum(sizes))
    rows = np.repeat(np.arange(len(sizes)), sizes)
    return csr_array((np.ones(columns.size), (rows, columns)), shape=(len(sizes), columns.size))
