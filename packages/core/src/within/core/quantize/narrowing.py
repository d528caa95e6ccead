"""Intervals of scales that may hold the optimum: branch and bound on the scale, with a bound from convexity.

The gain G(alpha) = sum w^2 - L(alpha) is the largest of the parabolas 2 alpha A - alpha^2 D over all assignments (see
`optimal_scale`), and D of the nearest assignment never grows with alpha, as weights only change to levels nearer to
zero. So on [a, b] every parabola that matters has D <= D(a): G + D(a) alpha^2 is a maximum of convex functions, hence
convex, hence below its chord, and

    G(alpha) <= chord through G(a) and G(b)  +  D(a) (alpha - a) (b - alpha).

The bound is tight to second order in b - a, so few intervals around the optimum survive each round.
"""

from __future__ import annotations

import numpy as np

from within.core.quantize.assignment import Best, Floats, Integers, Side, evaluate

FIRST_RATIO = 1.3  # of neighbouring scales in the first grid
PARTS = 4  # into which an interval is split
SWEPT = 1 << 6  # breakpoints of one row that are left to the sweep
ROUNDS = 60
ROUNDING = 4e-16


def narrow(parts: list[Side], rows: Integers, best: Best) -> tuple[Integers, Floats, Floats]:
    """Returns (row, low, high): intervals with breakpoints outside of which no scale beats `best`, which grows."""
    if not rows.size:
        return rows, np.zeros(0), np.zeros(0)
    rows, low, high = _first_intervals(parts, rows, best)
    for _ in range(ROUNDS):
        keep = (_bound(low, high) >= best.gains[rows] * (1 - ROUNDING)) & (high[:, 3] > low[:, 3])
        rows, low, high = rows[keep], low[keep], high[keep]
        left = np.bincount(rows, high[:, 3] - low[:, 3], minlength=best.gains.size)
        split = (left[rows] > SWEPT) & (high[:, 0] - low[:, 0] > 1e-13 * high[:, 0])
        if not split.any():
            break
        inner = np.repeat(rows[split], PARTS - 1)
        scales = np.linspace(low[split, 0], high[split, 0], PARTS + 1, axis=1)[:, 1:-1]
        found = evaluate(parts, inner, scales.reshape(-1), best).reshape(-1, PARTS - 1, 4)
        points = np.concatenate([low[split, None], found, high[split, None]], axis=1)
        rows = np.concatenate([rows[~split], np.repeat(rows[split], PARTS)])
        low = np.concatenate([low[~split], points[:, :-1].reshape(-1, 4)])
        high = np.concatenate([high[~split], points[:, 1:].reshape(-1, 4)])
    return rows, low[:, 0], high[:, 0]


def _bound(low: Floats, high: Floats) -> Floats:
    """Returns the largest value of the chord plus D(a) (alpha - a) (b - alpha) on each interval [a, b]."""
    (a, gain_a, D, _), (b, gain_b, _, _) = low.T, high.T
    width, difference = b - a, gain_b - gain_a
    slope = difference / width
    inside = np.abs(slope) < D * width  # the vertex lies between a and b
    vertex = (gain_a + gain_b) / 2 + D * width**2 / 4 + slope**2 / (4 * np.where(inside, D, 1.0))
    return np.where(inside, vertex, np.maximum(gain_a, gain_b))


def _first_intervals(parts: list[Side], rows: Integers, best: Best) -> tuple[Integers, Floats, Floats]:
    """Returns intervals between the ends of a geometric grid that spans every breakpoint and scale that can be best.

    No code is larger than c_K, so the gain at alpha is at most 2 alpha c_K sum |w|, which rules small scales out. Above
    the last breakpoint the assignment no longer changes.
    """
    top = np.max([side.largest()[rows] / side.middles[0] for side in parts if side.middles.size], axis=0)
    reach = np.sum([np.maximum(side.levels[-1], 0.0) * side.totals()[rows] for side in parts], axis=0)
    evaluate(parts, rows, top, best)
    for side in parts:
        if side.levels[-1] > 0:
            evaluate(parts, rows, side.largest()[rows] / side.levels[-1], best)  # the absolute maximum
    bottom = best.gains[rows] / (2 * np.where(reach > 0, reach, 1.0))
    searched = (reach > 0) & (bottom > 0) & (bottom < top)
    rows, bottom, top = rows[searched], bottom[searched], top[searched]
    steps = np.ceil(np.log(top / bottom) / np.log(FIRST_RATIO)).astype(np.int64) + 1
    row = np.repeat(np.arange(rows.size), steps + 1)
    step = np.arange(row.size) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    # The ends reach past the range by rounding, so that the last breakpoint is inside.
    scales = bottom[row] * (1 - 1e-12) * ((top / bottom)[row] * (1 + 4e-12)) ** (step / steps[row])
    points = evaluate(parts, rows[row], scales, best)
    joined = row[1:] == row[:-1]
    return rows[row[1:][joined]], points[:-1][joined], points[1:][joined]
