"""The multiple-choice knapsack by dynamic programming over the cost axis.

    T_l(c) = max_k  T_{l-1}(c - C_l(k)) + V_l(k),      T_0(c) = 0

(Dudzinski and Walukiewicz, Exact methods for the knapsack problem and its generalizations, EJOR 28, 1987). A group
costs one vector addition and one vector maximum an option. Only the tables are stored: the choice is read back by
finding which option reproduces the entry, and because the same two numbers are added again, it does so bit for bit.
"""

from __future__ import annotations

import numpy as np

from within.core.solve.options import Floats, Options

TABLE_BYTES = 512 << 20  # all tables together; a longer cost axis is coarsened
BLOCK = 1 << 15  # cells that stay in the second-level cache while all options of a group pass over them


def coarsen(options: Options, units: int) -> tuple[Options, bool]:
    """Returns the problem on a cost axis of at most `units` cells, and whether nothing was rounded.

    Costs are divided by their greatest common divisor; where that is not enough, by more, and rounded up, so that every
    choice that fits the short axis fits the long one.
    """
    units = max(1, min(units, TABLE_BYTES // (8 * len(options.cost))))
    divisor = int(np.gcd.reduce([int(np.gcd.reduce(costs)) for costs in options.cost])) or 1
    capacity = min(options.capacity, sum(int(costs[-1]) for costs in options.cost))
    factor = -(-(capacity // divisor) // units)
    exact = factor <= 1
    step = divisor * max(1, factor)
    cost = tuple(-(-costs // step) for costs in options.cost)
    shorter = Options(options.index, options.value, cost, capacity // step)
    # Rounded costs may tie, and the last of a tie has the highest value; cost 0 is always there and always fits.
    keep = [np.append(np.diff(costs) > 0, True) & (costs <= shorter.capacity) for costs in cost]
    return shorter.select(keep), exact


def dynamic_programme(options: Options) -> list[int]:
    """Returns the best positions for a problem whose capacity is the length of the cost axis.

    Time is `sum of options x capacity`, memory `groups x capacity x 8` bytes.
    """
    reach = np.cumsum([int(costs[-1]) for costs in options.cost])
    total = int(reach[-1])
    capacity = min(options.capacity, total)
    tables: list[Floats] = []
    previous: Floats = np.zeros(capacity + 1)
    for costs, values, high in zip(options.cost, options.value, reach.tolist()):
        # Below `low` even the dearest options of all later groups leave part of the budget unused.
        low = max(0, capacity - (total - high))
        tables.append(previous)
        previous = _extend(previous, costs.tolist(), values.tolist(), low, min(high, capacity))
    return _read_back(options, tables, previous, capacity)


def _extend(previous: Floats, costs: list[int], values: list[float], low: int, high: int) -> Floats:
    table = np.empty_like(previous)
    scratch = np.empty(BLOCK)
    for start in range(low, high + 1, BLOCK):
        end = min(start + BLOCK, high + 1)
        np.add(previous[start:end], values[0], out=table[start:end])
        for cost, value in zip(costs[1:], values[1:]):
            first = max(start, cost)
            if first >= end:
                break
            candidate = np.add(previous[first - cost : end - cost], value, out=scratch[: end - first])
            np.maximum(table[first:end], candidate, out=table[first:end])
    table[high + 1 :] = table[high]
    return table


def _read_back(options: Options, tables: list[Floats], last: Floats, capacity: int) -> list[int]:
    position = []
    here = capacity
    for group in range(len(tables) - 1, -1, -1):
        costs, values, before = options.cost[group], options.value[group], tables[group]
        fits = int(np.searchsorted(costs, here, side="right"))
        place = int(np.flatnonzero(before[here - costs[:fits]] + values[:fits] == last[here])[0])
        position.append(place)
        here -= int(costs[place])
        last = before
    return position[::-1]
