"""The multiple-choice knapsack by merging lists of undominated partial choices, exact for real costs.

Groups are joined one at a time into two lists, one for each half of the groups (Horowitz and Sahni, Computing
partitions with applications to the knapsack problem, JACM 21, 1974). A partial choice goes when another is as cheap and
as good, and when even the linear relaxation of all groups outside its list cannot lift it above a known solution
(Pisinger, A minimal algorithm for the multiple-choice knapsack problem, EJOR 83, 1995). What remains of both lists is
paired by one sorted look-up. Costs are grid integers, so lists of a million entries add no rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.solve.bound import Segments
from within.core.solve.options import Floats, Integers, Options

JOIN = 4_000_000  # entries of one list before it is thinned out, about 300 MB


class TooManyStates(Exception):  # noqa: N818 (not an error: the caller turns to the dynamic programme)
    """The lists outgrew the work limit."""


@dataclass(frozen=True)
class Partial:
    """Undominated choices over some groups, by ascending cost and value, with the way back to the shorter list."""

    cost: Integers
    value: Floats
    parent: Integers
    option: Integers


def merge_dominant(options: Options, lines: Segments, known: float, work: int) -> list[int] | None:
    """Returns the best positions if their value exceeds `known`, else None, which proves that `known` is optimal.

    Arguments:
        lines: the hull segments of the same options.
        known: the value of a feasible choice.
        work: how many partial choices may be looked at.

    Raises:
        TooManyStates: when `work` is spent.
    """
    count = len(options.cost)
    sizes = np.asarray([costs.size for costs in options.cost])
    order = np.argsort(sizes, kind="stable")  # groups that the sieve has fixed cost nothing and tighten the bound
    halves: tuple[list[int], list[int]] = ([], [])
    outside = np.ones(count, dtype=bool)
    zero = np.zeros(1, dtype=np.int64)
    chains: tuple[list[Partial], list[Partial]] = ([], [])
    for chain in chains:
        chain.append(Partial(zero, np.zeros(1), zero, zero))
    for group in order.tolist():
        side = 0 if chains[0][-1].cost.size <= chains[1][-1].cost.size else 1
        outside[:] = True  # the bound of this list covers the groups of the other list too
        outside[[*halves[side], group]] = False
        size = chains[side][-1].cost.size * int(sizes[group])
        work -= size
        if work < 0 or size > JOIN:
            raise TooManyStates
        merged = _join(chains[side][-1], options, group, lines.envelope(outside), known)
        if merged is None:
            return None
        chains[side].append(merged)
        halves[side].append(group)
    return _pair(options.capacity, chains, halves, known)


def _join(
    partial: Partial, options: Options, group: int, envelope: tuple[Floats, Floats], known: float
) -> Partial | None:
    cost = (partial.cost[:, None] + options.cost[group]).ravel()
    value = (partial.value[:, None] + options.value[group]).ravel()
    left = options.capacity - cost
    promising = np.flatnonzero((left >= 0) & (value + np.interp(left.astype(np.float64), *envelope) > known))
    if promising.size == 0:
        return None
    cost, value = cost[promising], value[promising]
    order = np.argsort(cost, kind="stable")
    cost, value = cost[order], value[order]
    keep = _undominated(cost, value)
    origin = promising[order[keep]]
    return Partial(cost[keep], value[keep], *np.divmod(origin, options.cost[group].size))


def _undominated(cost: Integers, value: Floats) -> Integers:
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(value)[:-1]))
    rising = np.flatnonzero(value > best_before)
    return rising[np.append(np.diff(cost[rising]) > 0, True)]  # of equal costs the last, which is the best


def _pair(
    capacity: int, chains: tuple[list[Partial], list[Partial]], halves: tuple[list[int], list[int]], known: float
) -> list[int] | None:
    first, second = chains[0][-1], chains[1][-1]
    partner: NDArray[np.int64] = np.searchsorted(second.cost, capacity - first.cost, side="right") - 1
    total = np.where(partner >= 0, first.value + second.value[np.maximum(partner, 0)], -np.inf)
    best = int(total.argmax())
    if not total[best] > known:
        return None
    position = [0] * (len(halves[0]) + len(halves[1]))
    for chain, groups, entry in zip(chains, halves, (best, int(partner[best]))):
        for partial, group in zip(reversed(chain[1:]), reversed(groups)):
            position[group] = int(partial.option[entry])
            entry = int(partial.parent[entry])
    return position
