"""The linear relaxation of the multiple-choice knapsack: a certificate, a first answer, and a sieve.

Sinha and Zoltners, The multiple-choice knapsack problem, Operations Research 27 (1979): only the concave hull of each
group's (cost, value) points matters to the relaxation, and filling the budget with hull segments in order of
value per cost solves it. With the slope `lambda` of the last segment, the Lagrangian

    L(lambda) = sum_l max_k (V_l(k) - lambda C_l(k)) + lambda B

bounds every choice, and forcing option k on group l costs L exactly the amount by which k falls short of that group's
maximum. Options that fall short by more than the distance to a known solution are in no better solution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.solve.convex import hull_vertices
from within.core.solve.options import Floats, Integers, Options


@dataclass(frozen=True)
class Segments:
    """The hull segments of all groups, steepest first.

    Attributes:
        cost, value: what a segment adds, shape `(segments,)`.
        group: whose it is.
        start: the value when every group takes its cheapest option, shape `(groups,)`.
        to: the option at the segment's end, as a position in its group.
    """

    cost: Floats
    value: Floats
    group: Integers
    to: Integers
    start: Floats

    def envelope(self, groups: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Returns the corners (cost, value) of the relaxed value of these groups as a function of their budget."""
        mine = groups[self.group]
        cost = np.concatenate(([0.0], np.cumsum(self.cost[mine])))
        return cost, float(self.start[groups].sum()) + np.concatenate(([0.0], np.cumsum(self.value[mine])))


def segments(options: Options) -> Segments:
    """Returns the concave hull of every group as segments, sorted by value per cost."""
    cost, value, group, to = [np.empty(0)], [np.empty(0)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for position, (costs, values) in enumerate(zip(options.cost, options.value)):
        vertices = hull_vertices(costs, -values)
        cost.append(np.diff(costs[vertices]).astype(np.float64))
        value.append(np.diff(values[vertices]))
        group.append(np.full(vertices.size - 1, position))
        to.append(vertices[1:])
    lengths, gains = np.concatenate(cost), np.concatenate(value)
    groups, ends = np.concatenate(group), np.concatenate(to)
    # Within a group slopes fall, but rounding may tie them: the end position keeps a group's own order.
    order = np.lexsort((ends, -(gains / lengths)))
    start = np.asarray([values[0] for values in options.value])
    return Segments(lengths[order], gains[order], groups[order], ends[order], start)


def relaxed_value(lines: Segments, capacity: int) -> float:
    """Returns the optimum of the linear relaxation: an upper bound on every choice."""
    cost, value = lines.envelope(np.ones(lines.start.size, dtype=bool))
    return float(np.interp(float(capacity), cost, value))


def greedy(options: Options, lines: Segments) -> list[int]:
    """Returns a feasible choice: the relaxation rounded down, then single changes while any fits and gains."""
    position = [0] * len(options.cost)
    left = options.capacity
    blocked = set()
    for group, to in zip(lines.group.tolist(), lines.to.tolist()):
        extra = int(options.cost[group][to]) - int(options.cost[group][position[group]])
        if group in blocked or extra > left:
            blocked.add(group)
            continue
        position[group], left = to, left - extra
    improved = True
    while improved:
        gains = np.zeros(len(position))
        best = []
        for group, (costs, values) in enumerate(zip(options.cost, options.value)):
            reach = int(costs[position[group]]) + left
            best.append(int(np.searchsorted(costs, reach, side="right")) - 1)
            gains[group] = values[best[group]] - values[position[group]]
        group = int(gains.argmax())
        improved = bool(gains[group] > 0)
        if improved:
            left -= int(options.cost[group][best[group]] - options.cost[group][position[group]])
            position[group] = best[group]
    return position


def sieve(options: Options, lines: Segments, known: float) -> Options | None:
    """Returns the options that may be part of a choice better than `known`, or None when there is no such choice."""
    filled = np.cumsum(lines.cost)
    last = int(np.searchsorted(filled, float(options.capacity), side="left"))
    slope = float(lines.value[last] / lines.cost[last]) if last < filled.size else 0.0
    keep = []
    reduced = [values - slope * costs for values, costs in zip(options.value, options.cost)]
    bound = math.fsum(float(value.max()) for value in reduced) + slope * options.capacity
    for value in reduced:
        keep.append(bound - (value.max() - value) > known)
        if not keep[-1].any():
            return None
    smaller = options.select(keep)
    if smaller.capacity < 0:
        return None
    return smaller.select([costs <= smaller.capacity for costs in smaller.cost])


def position_value(options: Options, position: list[int]) -> float:
    """Returns the value of positions in the condensed groups, rounded once."""
    return math.fsum(float(values[place]) for values, place in zip(options.value, position))
