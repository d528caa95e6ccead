"""The widths of all channel groups at once, under many linear limits: exact, by one integer programme.

    minimise  sum_g S_g(k_g)   subject to   A k <= b,   k_g in {multiples of q_g} between k_min and K_g, and K_g itself

For a fixed input size the bytes alive at each step of a network are linear in the widths, so that a peak-memory limit
is one row for each step; most rows are implied by others and fall away. `S_g` is the measured loss when group g alone
is cut, piecewise linear between the measured widths. Every allowed width becomes an option of a multiple-choice
problem: no convexity is needed, and the answer is proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from within.core.errors import WithinError
from within.core.solve.convex import checked_curve
from within.core.solve.knapsack import knapsack
from within.core.solve.options import Floats, Integers
from within.core.solve.solution import infeasible, relative_gap


@dataclass(frozen=True)
class Widths:
    """Chosen widths.

    Attributes:
        widths: channels kept in each group.
        loss: the sum of the interpolated losses.
        lower_bound: no widths within the limits lose less.
        gap: `(loss - lower_bound) / |loss|`; 0.0 when proved optimal.
        usage: `fixed + A @ widths`, one entry a row, in the unit of the limits.
        rows: the rows that took part; the others are implied by them.
        method: the algorithm that found it.
    """

    widths: tuple[int, ...]
    loss: float
    lower_bound: float
    gap: float
    usage: tuple[float, ...]
    rows: tuple[int, ...]
    method: str


def fit_widths(
    curves: Sequence[tuple[ArrayLike, ArrayLike]],
    rows: ArrayLike,
    limits: ArrayLike,
    *,
    fixed: ArrayLike = 0.0,
    step: int | Sequence[int] = 8,
    minimum: Sequence[int] | None = None,
    time_limit: float | None = 60.0,
    group_names: Sequence[str] | None = None,
    row_names: Sequence[str] | None = None,
) -> Widths:
    """Returns the widths that lose least within all limits.

    Arguments:
        curves: per group, the measured widths (channels, increasing, the last one the full width K) and the loss at
            each. Losses between two measured widths are interpolated; below the first none is assumed.
        rows: A, shape `(rows, groups)`, not negative: what one channel of each group adds to each row, such as bytes.
        limits: b, a number or shape `(rows,)`.
        fixed: what each row holds whatever the widths are, a number or shape `(rows,)`.
        step: q, one for all groups or one a group.
        minimum: the least width of each group; by default the first measured one.
        time_limit: seconds for the solver; a stopped search leaves a gap.
        group_names, row_names: for error messages.

    Raises:
        InfeasibleBudget: when no widths fit, with the tightest row, its least attainable value, and what holds it.
        WithinError: on bad curves, shapes or numbers, and on a minimum below the measured widths.
    """
    matrix = _array(rows, "rows")
    if matrix.ndim != 2 or matrix.shape[1] != len(curves):
        raise WithinError(f"{len(curves)} groups need rows of shape (rows, {len(curves)}), not {matrix.shape}")
    count = matrix.shape[0]
    limit, base = _per_row(limits, count, "limits"), _per_row(fixed, count, "fixed")
    if not (np.isfinite(matrix).all() and np.isfinite(base).all()) or np.isnan(limit).any() or (matrix < 0).any():
        raise WithinError("Rows must be finite and at least 0; limits must be numbers", where="rows, fixed, limits")
    names = tuple(group_names) if group_names else tuple(f"group {group}" for group in range(len(curves)))
    labels = tuple(row_names) if row_names else tuple(f"row {row}" for row in range(count))
    if len(names) != len(curves) or len(labels) != count:
        raise WithinError("The names are not as many as the groups and rows", where="group_names, row_names")
    steps = [step] * len(curves) if isinstance(step, int) else list(step)
    least: list[int | None] = [None] * len(curves) if minimum is None else list(minimum)
    if len(steps) != len(curves) or len(least) != len(curves):
        raise WithinError(f"There are {len(curves)} groups, {len(steps)} steps and {len(least)} minima")
    allowed, losses = [], []
    for name, (points, measured), q, low in zip(names, curves, steps, least):
        x, y = checked_curve(points, measured, where=name)
        widths = allowed_widths(int(x[-1]), q, int(np.ceil(x[0])) if low is None else low)
        if widths[0] < x[0]:
            raise WithinError(f"The least width {widths[0]} is below the first measured one, {x[0]:g}", where=name)
        allowed.append(widths)
        losses.append(np.interp(widths.astype(np.float64), x, y))
    _check_each_row(matrix, limit, base, allowed, names, labels)
    room = limit - base
    kept = needed_rows(matrix, room, [int(widths[-1]) for widths in allowed])
    costs = [widths[:, None] * matrix[kept, group] for group, widths in enumerate(allowed)]
    values = [-loss for loss in losses]
    if kept.size:
        kept_labels = [labels[row] for row in kept.tolist()]
        solution = knapsack(
            values, costs, room[kept], time_limit=time_limit, group_names=names, budget_names=kept_labels
        )
    else:  # nothing binds
        solution = knapsack(values, [np.zeros(value.size) for value in values], 0.0)
    chosen = [int(widths[option]) for widths, option in zip(allowed, solution.choice)]
    usage = base + matrix @ np.asarray(chosen, dtype=np.float64)
    gap = relative_gap(-solution.value, -solution.upper_bound)
    return Widths(
        tuple(chosen),
        -solution.value,
        -solution.upper_bound,
        gap,
        tuple(usage.tolist()),
        tuple(kept.tolist()),
        solution.method,
    )


def allowed_widths(full: int, step: int, minimum: int) -> Integers:
    """Returns the multiples of `step` from `minimum` to `full`, and `full` itself, ascending.

    Raises:
        WithinError: when the step is not positive or the minimum is above the full width or below 1.
    """
    if step < 1 or not 1 <= minimum <= full:
        raise WithinError(f"No width between {minimum} and {full} in steps of {step}", todo="1 <= minimum <= full")
    multiples = np.arange(-(-minimum // step) * step, full + 1, step, dtype=np.int64)
    return np.unique(np.append(multiples, full))


def needed_rows(rows: Floats, limits: Floats, maximum: Sequence[int]) -> Integers:
    """Returns the rows that other rows do not imply for widths up to `maximum`.

    A row falls away when even the largest widths keep it, and when another row is at least as large in every
    coefficient and at most as large in its limit.
    """
    order = np.flatnonzero(rows @ np.asarray(maximum, dtype=np.float64) > limits)
    # A row can only be implied by one that is as large, and of equal ones by that with the lower limit.
    order = order[np.lexsort((limits[order], -rows[order].sum(axis=1)))]
    kept: list[int] = []
    for row in order.tolist():
        implied = (rows[kept] >= rows[row]).all(axis=1) & (limits[kept] <= limits[row])
        if not implied.any():
            kept.append(row)
    return np.asarray(sorted(kept), dtype=np.int64)


def _check_each_row(
    rows: Floats, limits: Floats, fixed: Floats, allowed: list[Integers], names: Sequence[str], labels: Sequence[str]
) -> None:
    parts = rows * np.asarray([widths[0] for widths in allowed], dtype=np.float64)
    over = fixed + parts.sum(axis=1) - limits
    if (over > 0).any():
        row = int(over.argmax())
        raise infeasible(
            labels[row],
            float(limits[row]),
            ["what no width changes", *names],
            [float(fixed[row]), *parts[row].tolist()],
        )


def _array(value: ArrayLike, where: str) -> Floats:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WithinError(f"Not an array of numbers: {error}", where=where) from error


def _per_row(value: ArrayLike, count: int, where: str) -> Floats:
    array = _array(value, where)
    if array.ndim > 1 or (array.ndim == 1 and array.size != count):
        raise WithinError(f"{count} rows need one number or {count}, not shape {array.shape}", where=where)
    return np.broadcast_to(array, (count,)).astype(np.float64)
