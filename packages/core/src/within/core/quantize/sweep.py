"""The sweep over breakpoints: every assignment that a scale meets as it grows from one end of an interval to the other.

Crossing a breakpoint of weight w changes its level from c_{k+1} to c_k, so A loses w (c_{k+1} - c_k) and D loses
c_{k+1}^2 - c_k^2 (Idelbayev et al., CVPR 2021). With the breakpoints sorted, running sums give all assignments.
"""

from __future__ import annotations

import numpy as np

from within.core.quantize.assignment import Best, Floats, Integers, Side

AT_ONCE = 1 << 21  # breakpoints held at one time


def sweep(parts: list[Side], rows: Integers, low: Floats, high: Floats, best: Best) -> None:
    """Offers to `best` the assignments at the low end of every interval and after each breakpoint in (low, high]."""
    ends = [(side, side.positions(rows, low), side.positions(rows, high)) for side in parts]
    crossings = np.sum([(last - first).sum(1) for _, first, last in ends], axis=0)
    batch = np.cumsum(crossings) // AT_ONCE
    for number in np.unique(batch):
        chosen = np.flatnonzero(batch == number)
        _sweep([(side, first[chosen], last[chosen]) for side, first, last in ends], rows[chosen], best)


def _sweep(ends: list[tuple[Side, Integers, Integers]], rows: Integers, best: Best) -> None:
    A, D = np.zeros(rows.size, np.longdouble), np.zeros(rows.size)
    events = []
    for side, first, last in ends:
        numerator, denominator = side.sums(rows, first)
        A += numerator
        D += denominator
        length = (last - first).reshape(-1)
        run = np.repeat(np.arange(length.size), length)  # an interval and a middle: its weights are consecutive
        index = np.arange(run.size) - np.repeat(np.cumsum(length) - length - first.reshape(-1), length)
        middle = run % max(1, side.middles.size)
        values, counts = side.values[index], side.counts[index]
        events.append(
            (
                run // max(1, side.middles.size),
                values / side.middles[middle],
                counts * values * np.diff(side.levels)[middle],
                counts * np.diff(side.levels**2)[middle],
            )
        )
    best.take(rows, A.astype(np.float64), D)
    interval, breakpoint_, lost_A, lost_D = (np.concatenate(items) for items in zip(*events))
    order = np.lexsort((breakpoint_, interval))
    interval = interval[order]
    # Running losses within each interval: those of all, less what was lost before the interval began.
    begins = np.searchsorted(interval, np.arange(rows.size))
    running_A = np.append(np.longdouble(0), np.cumsum(lost_A[order].astype(np.longdouble)))
    running_D = np.append(np.longdouble(0), np.cumsum(lost_D[order].astype(np.longdouble)))
    left_A = A[interval] - (running_A[1:] - running_A[begins][interval])
    left_D = D[interval] - (running_D[1:] - running_D[begins][interval])
    best.take(rows[interval], left_A.astype(np.float64), left_D.astype(np.float64))
