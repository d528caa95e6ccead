"""One step of a linear programme over channels to remove: the inner step of memory-oriented pruning.

    minimise  s . Delta   subject to   A Delta >= deficit,   0 <= Delta <= upper

(Shi et al., Memory-oriented structural pruning for efficient image restoration, AAAI 2023: the outer step asks the
widest memory peak for one stride, the inner step spreads it over the layers alive there.) Removed channels are rounded
up to whole steps; a step is taken back only where every deficit stays covered without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from within.core.errors import WithinError
from within.core.solve.options import Floats
from within.core.solve.solution import InfeasibleBudget, number


@dataclass(frozen=True)
class Step:
    """Channels to remove.

    Attributes:
        removed: Delta after rounding, one entry a group.
        relaxed: Delta before rounding.
        loss: `s . removed`.
        lower_bound: `s . relaxed`: no removal that covers the deficits loses less.
        prices: what one more unit of each row's deficit costs in loss (the dual values), one entry a row.
    """

    removed: tuple[float, ...]
    relaxed: tuple[float, ...]
    loss: float
    lower_bound: float
    prices: tuple[float, ...]


def linear_step(
    sensitivity: ArrayLike,
    rows: ArrayLike,
    deficit: ArrayLike,
    upper: ArrayLike,
    *,
    step: ArrayLike | None = None,
    group_names: Sequence[str] | None = None,
    row_names: Sequence[str] | None = None,
) -> Step:
    """Returns the removal that loses least and covers every deficit.

    Arguments:
        sensitivity: s, the loss for one channel, shape `(groups,)`, not negative.
        rows: A, what one removed channel frees in each row, shape `(rows, groups)`, not negative.
        deficit: what each row must free, shape `(rows,)`; a row that needs nothing may be 0 or below.
        upper: the most channels that each group may lose, shape `(groups,)`.
        step: round `removed` up to multiples of this, a number or shape `(groups,)`; an upper limit that is no
            multiple counts as the multiple below it. No rounding by default.
        group_names, row_names: for error messages.

    Raises:
        InfeasibleBudget: when some row cannot be covered even by removing all that is allowed. It names the row that
            falls furthest short, lists all that do, and the groups that could free most there.
        WithinError: on bad shapes or numbers.
    """
    s, matrix, need, top = (np.asarray(array, dtype=np.float64) for array in (sensitivity, rows, deficit, upper))
    if matrix.ndim != 2 or s.shape != (matrix.shape[1],) or need.shape != (matrix.shape[0],) or top.shape != s.shape:
        raise WithinError(
            f"Shapes do not fit: sensitivity {s.shape}, rows {matrix.shape}, deficit {need.shape}, upper {top.shape}",
            todo="(groups,), (rows, groups), (rows,), (groups,)",
        )
    for where, array in (("sensitivity", s), ("rows", matrix), ("upper", top)):
        if not np.isfinite(array).all() or (array < 0).any():
            raise WithinError("Every number must be finite and at least 0", where=where)
    if not np.isfinite(need).all():
        raise WithinError("Every number must be finite", where="deficit")
    whole = None if step is None else np.broadcast_to(np.asarray(step, dtype=np.float64), s.shape)
    if whole is not None:
        if not (whole > 0).all():
            raise WithinError("A step must be above 0", where="step")
        top = np.floor(top / whole + 1e-9) * whole
    groups = tuple(group_names) if group_names else tuple(f"group {group}" for group in range(s.size))
    labels = tuple(row_names) if row_names else tuple(f"row {row}" for row in range(need.size))
    _check_attainable(matrix, need, top, groups, labels)
    relaxed, prices = _solve(s, matrix, need, top)
    removed = relaxed.copy()
    if whole is not None:
        removed = np.minimum(np.ceil(relaxed / whole - 1e-9) * whole, top)
    for row in np.flatnonzero(need > 0).tolist():
        _cover(removed, matrix[row], float(need[row]), top, whole, s)
    if whole is not None:
        _give_back(removed, matrix, need, whole, s)
    return Step(
        tuple(removed.tolist()), tuple(relaxed.tolist()), float(s @ removed), float(s @ relaxed), tuple(prices.tolist())
    )


def _solve(s: Floats, matrix: Floats, need: Floats, top: Floats) -> tuple[Floats, Floats]:
    prices = np.zeros(need.size)
    active = np.flatnonzero(need > 0)
    if active.size == 0:
        return np.zeros(s.size), prices
    # Columns in units of the upper limits, rows in units of the deficits, the loss in units of its largest part.
    unit = np.where(top > 0, top, 1.0)
    scale = float((s * unit).max()) or 1.0
    result = linprog(
        s * unit / scale,
        A_ub=-(matrix[active] * unit) / need[active, None],
        b_ub=-np.ones(active.size),
        bounds=np.stack([np.zeros(s.size), (top > 0).astype(np.float64)], axis=1),
        method="highs",
    )
    if result.status == 2:  # attainable with nothing to spare: only the largest removal covers the deficit
        return top.copy(), prices
    if result.status != 0:
        raise WithinError(f"HiGHS stopped: {result.message}", where="the linear programme")
    prices[active] = -result.ineqlin.marginals * scale / need[active]
    relaxed = np.clip(result.x, 0.0, 1.0) * np.where(top > 0, top, 0.0)
    return relaxed, prices


def _cover(removed: Floats, row: Floats, need: float, top: Floats, whole: Floats | None, s: Floats) -> None:
    """Removes more, in place and where it is cheapest, until the row is covered: the solver leaves up to 1e-7 open."""
    missing = need - row @ removed
    while missing > 0:
        free = np.flatnonzero((removed < top) & (row > 0))
        if free.size == 0:
            return  # everything allowed is removed, and the check before found that enough but for the last bits
        group = int(free[np.argmin(s[free] / row[free])])
        more = missing / row[group] * (1 + 1e-15) if whole is None else whole[group]
        removed[group] = min(max(removed[group] + more, np.nextafter(removed[group], np.inf)), top[group])
        missing = need - row @ removed


def _give_back(removed: Floats, matrix: Floats, need: Floats, whole: Floats, s: Floats) -> None:
    """Takes back, in place, whole steps that rounding up made superfluous, the dearest first."""
    for group in np.argsort(-s * whole, kind="stable").tolist():
        less = removed.copy()
        less[group] = max(0.0, removed[group] - whole[group])
        while less[group] < removed[group] and (matrix @ less >= need).all():
            removed[group] = less[group]
            less[group] = max(0.0, removed[group] - whole[group])


def _check_attainable(matrix: Floats, need: Floats, top: Floats, groups: Sequence[str], labels: Sequence[str]) -> None:
    most = matrix @ top
    short = need - most
    missed = np.flatnonzero(short > 1e-12 * np.abs(need))
    if missed.size == 0:
        return
    worst = int(missed[short[missed].argmax()])
    parts = sorted(zip(groups, (matrix[worst] * top).tolist()), key=lambda part: -part[1])
    holders = [(name, part) for name, part in parts if part > 0]
    can = ", ".join(f"{name} ({number(part)})" for name, part in holders[:5]) or "no group"
    others = [labels[row] for row in missed.tolist() if row != worst]
    also = f"; also missed: {', '.join(others[:5])}" + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    raise InfeasibleBudget(
        f"{labels[worst]} must give up {number(float(need[worst]))}, and at most {number(float(most[worst]))} can go"
        + (also if others else ""),
        where=f"{can} can give up something there",
        todo="raise the limit, lower the minimum widths, or let more of each group go in one step",
        budget=labels[worst],
        limit=float(most[worst]),
        minimum=float(need[worst]),
        holders=holders,
    )
