"""The widths of all channel groups within all budgets.

Maximise the kept importance subject to F_b(k) <= B_b for every budget b. Peak memory is linear in the widths (one row
an operator); MACs and others are not, so each round solves the exact integer programme of the costs linearised at the
current widths, within a trust region, and counts again:

    max sum_g V_g(k_g)   s.t.  F_b(k_t) + grad F_b(k_t) . (k - k_t) <= B_b,   |k_g - k_t,g| <= rho k_t,g

until the exact costs meet every budget. A last pass gives steps back while every exact cost stays within its limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.cost import Budget, PeakMemory
from within.core.cost.macs import Macs
from within.core.errors import WithinError
from within.core.graph import Graph
from within.core.pruning.importance import Scores
from within.core.solve import InfeasibleBudget, fit_widths

ROUNDS = 40


@dataclass(frozen=True)
class WidthRules:
    """What widths are allowed.

    Attributes:
        step: widths are multiples of it (groups smaller than two steps: of 1), or the full width.
        minimum: least fraction of each group that stays.
        protected: names of groups that are not cut.
    """

    step: int = 8
    minimum: float = 0.125
    protected: frozenset[str] = frozenset()

    def step_of(self, size: int) -> int:
        """Returns the step for a group of `size` atoms."""
        return self.step if size >= 2 * self.step else 1

    def least(self, graph: Graph) -> NDArray[np.int64]:
        """Returns the least allowed width of every group."""
        return np.array(
            [
                group.size if group.name in self.protected else self._round(group.size)
                for group in graph.channel_groups()
            ],
            dtype=np.int64,
        )

    def _round(self, size: int) -> int:
        step = self.step_of(size)
        return min(size, max(step, math.ceil(math.ceil(self.minimum * size) / step) * step))


@dataclass(frozen=True)
class WidthSolution:
    """Solved widths, the exact costs, and the gap of the last integer programme."""

    widths: NDArray[np.int64]
    costs: tuple[float, ...]
    gap: float
    rounds: int


def solve_widths(graph: Graph, budgets: Sequence[Budget], scores: Scores, rules: WidthRules) -> WidthSolution:
    """Returns widths within all budgets that keep the most importance.

    Raises:
        InfeasibleBudget: when even the least widths break a budget, with the tightest one and what holds it.
    """
    groups = graph.channel_groups()
    limits = [budget.resolve(graph) for budget in budgets]
    least, full = rules.least(graph), graph.width_vector()
    _check_attainable(graph, budgets, limits, least)
    curves = [loss_curve(np.asarray(scores[group.name])) for group in groups]
    widths, gap, rounds = full.copy(), 0.0, 0
    for rounds in range(1, ROUNDS + 1):  # noqa: B007
        costs = [float(budget.cost(graph, widths)) for budget in budgets]
        if all(cost <= limit for cost, limit in zip(costs, limits, strict=True)):
            break
        lower = np.maximum(least, np.minimum(np.ceil(widths * 0.75).astype(np.int64), widths))
        solved = _round(graph, budgets, limits, curves, rules, widths, lower)
        if solved is None or np.array_equal(solved[0], widths):
            widths = _cut_once(graph, budgets, limits, curves, rules, widths, least)
        else:
            widths, gap = solved
    widths = _repair(graph, budgets, limits, curves, rules, widths, least)
    widths = _grow(graph, budgets, limits, curves, rules, widths, full)
    return WidthSolution(widths, tuple(float(budget.cost(graph, widths)) for budget in budgets), gap, rounds)


def loss_curve(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the importance lost when k of n atoms stay, for k = 0 .. n (the least important go first)."""
    ordered = np.sort(scores)[::-1]
    kept = np.concatenate([[0.0], np.cumsum(ordered)])
    loss: NDArray[np.float64] = kept[-1] - kept
    return loss


def _round(
    graph: Graph,
    budgets: Sequence[Budget],
    limits: Sequence[float],
    curves: Sequence[NDArray[np.float64]],
    rules: WidthRules,
    widths: NDArray[np.int64],
    lower: NDArray[np.int64],
) -> tuple[NDArray[np.int64], float] | None:
    """One integer programme of the costs linearised at `widths`; nearer targets where the trust region is too small."""
    rows, fixed, bounds = [], [], []
    for budget, limit in zip(budgets, limits, strict=True):
        slope, constant = linearise(graph, budget, widths)
        current = constant + slope @ widths
        reachable = constant + slope @ lower
        target = np.maximum(limit, reachable + 0.02 * np.maximum(current - reachable, 0))
        rows.append(slope)
        fixed.append(constant)
        bounds.append(np.where(current > limit, np.minimum(target, current), np.maximum(limit, current)))
    matrix = np.maximum(np.concatenate(rows), 0.0)
    points = []
    for curve, low, size in zip(curves, lower, widths, strict=True):
        allowed = np.arange(int(low), int(size) + 1)
        points.append((allowed, curve[allowed]))
    steps = [rules.step_of(len(curve) - 1) for curve in curves]
    try:
        solution = fit_widths(
            points,
            matrix,
            np.concatenate(bounds),
            fixed=np.concatenate(fixed),
            step=steps,
            minimum=[int(value) for value in lower],
            group_names=[group.name for group in graph.channel_groups()],
        )
    except InfeasibleBudget:
        return None
    return np.array(solution.widths, dtype=np.int64), solution.gap


def linearise(
    graph: Graph, budget: Budget, widths: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns (rows, constants) of a cost near `widths`: one row an operator for peak memory, else one row."""
    if isinstance(budget.cost, PeakMemory):
        return budget.cost.rows(graph, widths)
    base = float(budget.cost(graph, widths))
    slope = np.zeros(len(widths))
    for position, width in enumerate(widths):
        delta = max(1, int(width) // 8)
        if width > delta:
            other = widths.copy()
            other[position] -= delta
            slope[position] = (base - float(budget.cost(graph, other))) / delta
    return slope[None], np.array([base - slope @ widths])


def _repair(
    graph: Graph,
    budgets: Sequence[Budget],
    limits: Sequence[float],
    curves: Sequence[NDArray[np.float64]],
    rules: WidthRules,
    widths: NDArray[np.int64],
    least: NDArray[np.int64],
) -> NDArray[np.int64]:
    for _ in range(10_000):
        if _excess(graph, budgets, limits, widths) <= 0:
            return widths
        widths = _cut_once(graph, budgets, limits, curves, rules, widths, least)
    raise AssertionError("cutting every group to its least width meets the budgets")


def _excess(graph: Graph, budgets: Sequence[Budget], limits: Sequence[float], widths: NDArray[np.int64]) -> float:
    return sum(
        max(0.0, float(budget.cost(graph, widths)) / limit - 1) for budget, limit in zip(budgets, limits, strict=True)
    )


def _cut_once(
    graph: Graph,
    budgets: Sequence[Budget],
    limits: Sequence[float],
    curves: Sequence[NDArray[np.float64]],
    rules: WidthRules,
    widths: NDArray[np.int64],
    least: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Removes one step where it lowers the excess most for the importance it loses."""
    excess = _excess(graph, budgets, limits, widths)
    best: tuple[float, int, int] | None = None
    cuttable: list[tuple[float, int, int]] = []
    for position, curve in enumerate(curves):
        narrower = _narrower(int(widths[position]), rules.step_of(len(curve) - 1))
        if narrower < least[position]:
            continue
        other = widths.copy()
        other[position] = narrower
        gain = excess - _excess(graph, budgets, limits, other)
        loss = float(curve[narrower] - curve[widths[position]]) + 1e-12
        cuttable.append((loss, position, narrower))
        if gain > 0 and (best is None or gain / loss > best[0]):
            best = (gain / loss, position, narrower)
    if best is None:  # no single step lowers the peak (ties): take the cheapest step among the groups that hold it
        held = _holding(graph, budgets, limits, widths)
        candidates = [entry for entry in cuttable if entry[1] in held] or cuttable
        if not candidates:
            raise WithinError("No channel is left to cut, and a budget is still broken", todo="raise the budget")
        _, position, narrower = min(candidates)
    else:
        _, position, narrower = best
    result = widths.copy()
    result[position] = narrower
    return result


def _holding(graph: Graph, budgets: Sequence[Budget], limits: Sequence[float], widths: NDArray[np.int64]) -> set[int]:
    held: set[int] = set()
    for budget, limit in zip(budgets, limits, strict=True):
        slope, constant = linearise(graph, budget, widths)
        for row in np.flatnonzero(constant + slope @ widths > limit):
            held |= set(np.flatnonzero(slope[row] > 0).tolist())
    return held


def _grow(
    graph: Graph,
    budgets: Sequence[Budget],
    limits: Sequence[float],
    curves: Sequence[NDArray[np.float64]],
    rules: WidthRules,
    widths: NDArray[np.int64],
    full: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Gives steps back, the most important first, while every exact cost stays within its limit."""
    closed: set[int] = set()
    while True:
        options = []
        for position, curve in enumerate(curves):
            if position in closed or widths[position] >= full[position]:
                continue
            wider = _wider(int(widths[position]), rules.step_of(len(curve) - 1), int(full[position]))
            options.append(
                (float(curve[widths[position]] - curve[wider]) / (wider - widths[position]), position, wider)
            )
        if not options:
            return widths
        for _, position, wider in sorted(options, reverse=True):
            other = widths.copy()
            other[position] = wider
            if _excess(graph, budgets, limits, other) <= 0:
                widths = other
                break
            closed.add(position)


def _narrower(width: int, step: int) -> int:
    return (width - 1) // step * step


def _wider(width: int, step: int, full: int) -> int:
    return min(full, (width // step + 1) * step)


def _check_attainable(
    graph: Graph, budgets: Sequence[Budget], limits: Sequence[float], least: NDArray[np.int64]
) -> None:
    worst: tuple[float, Budget, float, float] | None = None
    for budget, limit in zip(budgets, limits, strict=True):
        cost = float(budget.cost(graph, least))
        if cost > limit and (worst is None or cost / limit > worst[0]):
            worst = (cost / limit, budget, cost, limit)
    if worst is not None:
        _, budget, cost, limit = worst
        raise InfeasibleBudget(
            f"The budget cannot be met: {budget.cost.name} is at least {cost:,.0f} {budget.cost.unit} at the least "
            f"widths, and the limit is {limit:,.0f}",
            where=what_holds(graph, budget, least),
            todo="raise the budget, lower minimum=, protect fewer layers, or choose smaller inputs",
        )


def what_holds(graph: Graph, budget: Budget, widths: NDArray[np.int64]) -> str:
    """Returns, in words, what holds a cost up: tensors alive at the peak, or the heaviest operators."""
    if isinstance(budget.cost, PeakMemory):
        timeline = budget.cost.timeline(graph, widths)
        alive = timeline.alive(timeline.peak_operator)[:4]
        tensors = ", ".join(
            f"{storage.value} {'x'.join(map(str, graph.shape(storage.value, widths)))} ({size / 2**20:.2f} MiB)"
            for storage, size in alive
        )
        return f"operator {timeline.operators[timeline.peak_operator]}, alive there: {tensors}"
    if isinstance(budget.cost, Macs):
        heaviest = sorted(budget.cost.by_operator(graph, widths).items(), key=lambda entry: -entry[1])[:4]
        return ", ".join(f"{name} ({macs:,} MACs)" for name, macs in heaviest)
    frozen = list(graph.frozen.items())[:3]
    return "layers that may not be cut: " + ", ".join(f"{name} ({why})" for name, why in frozen)
