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
from within.core.solve.solution import number

ROUNDS = 40


@dataclass(frozen=True)
class WidthRules:
    """What widths are allowed.

    Attributes:
        step: widths are multiples of it (groups smaller than two steps: of 1), or the full width.
        minimum: least fraction of each group that stays.
        protected: names of groups that are not cut.
        strict: small groups keep to the step too, as for hardware that computes channels in blocks: one smaller than a
            step is not cut.
    """

    step: int = 8
    minimum: float = 0.125
    protected: frozenset[str] = frozenset()
    strict: bool = False

    def step_of(self, size: int) -> int:
        """Returns the step for a group of `size` atoms."""
        return self.step if self.strict or size >= 2 * self.step else 1

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


@dataclass(frozen=True, eq=False)
class _Problem:
    """What is to be solved: the budgets with their limits, and the importance lost at each width of each group."""

    graph: Graph
    budgets: Sequence[Budget]
    limits: Sequence[float]
    curves: Sequence[NDArray[np.float64]]
    rules: WidthRules
    least: NDArray[np.int64]

    def costs(self, widths: NDArray[np.int64]) -> list[float]:
        return [float(budget.cost(self.graph, widths)) for budget in self.budgets]

    def excess(self, widths: NDArray[np.int64]) -> float:
        """Returns by how much the budgets are broken, summed as fractions of the limits."""
        return sum(max(0.0, cost / limit - 1) for cost, limit in zip(self.costs(widths), self.limits, strict=True))

    def step(self, position: int) -> int:
        return self.rules.step_of(len(self.curves[position]) - 1)


def solve_widths(graph: Graph, budgets: Sequence[Budget], scores: Scores, rules: WidthRules) -> WidthSolution:
    """Returns widths within all budgets that keep the most importance.

    Raises:
        InfeasibleBudget: when even the least widths break a budget, with the tightest one and what holds it.
    """
    limits = [budget.resolve(graph) for budget in budgets]
    curves = [loss_curve(np.asarray(scores[group.name])) for group in graph.channel_groups()]
    problem = _Problem(graph, budgets, limits, curves, rules, rules.least(graph))
    _check_attainable(problem)
    widths, gap, rounds = graph.width_vector(), 0.0, 0
    for rounds in range(1, ROUNDS + 1):  # noqa: B007
        if problem.excess(widths) <= 0:
            break
        lower = np.maximum(problem.least, np.minimum(np.ceil(widths * 0.75).astype(np.int64), widths))
        solved = _round(problem, widths, lower)
        if solved is None or np.array_equal(solved[0], widths):
            widths = _cut_once(problem, widths)
        else:
            widths, gap = solved
    widths = _grow(problem, _repair(problem, widths))
    return WidthSolution(widths, tuple(problem.costs(widths)), gap, rounds)


def loss_curve(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the importance lost when k of n atoms stay, for k = 0 .. n (the least important go first)."""
    ordered = np.sort(scores)[::-1]
    kept = np.concatenate([[0.0], np.cumsum(ordered)])
    loss: NDArray[np.float64] = kept[-1] - kept
    return loss


def _round(
    problem: _Problem, widths: NDArray[np.int64], lower: NDArray[np.int64]
) -> tuple[NDArray[np.int64], float] | None:
    """One integer programme of the costs linearised at `widths`; nearer targets where the trust region is too small."""
    rows, fixed, bounds = [], [], []
    for budget, limit in zip(problem.budgets, problem.limits, strict=True):
        slope, constant = linearise(problem.graph, budget, widths, problem.rules)
        current = constant + slope @ widths
        reachable = constant + slope @ lower
        target = np.maximum(limit, reachable + 0.02 * np.maximum(current - reachable, 0))
        rows.append(slope)
        fixed.append(constant)
        bounds.append(np.where(current > limit, np.minimum(target, current), np.maximum(limit, current)))
    points = []
    for curve, low, size in zip(problem.curves, lower, widths, strict=True):
        allowed = np.arange(int(low), int(size) + 1)
        points.append((allowed, curve[allowed]))
    try:
        solution = fit_widths(
            points,
            np.maximum(np.concatenate(rows), 0.0),
            np.concatenate(bounds),
            fixed=np.concatenate(fixed),
            step=[problem.step(position) for position in range(len(points))],
            minimum=[int(value) for value in lower],
            group_names=[group.name for group in problem.graph.channel_groups()],
        )
    except InfeasibleBudget:
        return None
    return np.array(solution.widths, dtype=np.int64), solution.gap


def linearise(
    graph: Graph, budget: Budget, widths: NDArray[np.int64], rules: WidthRules
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns (rows, constants) of a cost near `widths`: one row an operator for peak memory, else one row.

    Differences are taken to allowed widths: a measured latency is measured there.
    """
    if isinstance(budget.cost, PeakMemory):
        return budget.cost.rows(graph, widths)
    base = float(budget.cost(graph, widths))
    slope = np.zeros(len(widths))
    for position, (group, width) in enumerate(zip(graph.channel_groups(), widths.tolist(), strict=True)):
        step = rules.step_of(group.size)
        narrower = _narrower(width - max(step, width // 8) + 1, step) or _narrower(width, step)
        if narrower > 0:
            cost = float(budget.cost(graph, _with_width(widths, position, narrower)))
            slope[position] = (base - cost) / (width - narrower)
    return slope[None], np.array([base - slope @ widths])


def _repair(problem: _Problem, widths: NDArray[np.int64]) -> NDArray[np.int64]:
    for _ in range(10_000):
        if problem.excess(widths) <= 0:
            return widths
        widths = _cut_once(problem, widths)
    raise AssertionError("cutting every group to its least width meets the budgets")


def _cut_once(problem: _Problem, widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Removes one step where it lowers the excess most for the importance it loses."""
    excess = problem.excess(widths)
    best: tuple[float, int, int] | None = None
    cuttable: list[tuple[float, int, int]] = []
    for position, curve in enumerate(problem.curves):
        narrower = _narrower(int(widths[position]), problem.step(position))
        if narrower < problem.least[position]:
            continue
        gain = excess - problem.excess(_with_width(widths, position, narrower))
        loss = float(curve[narrower] - curve[widths[position]]) + 1e-12
        cuttable.append((loss, position, narrower))
        if gain > 0 and (best is None or gain / loss > best[0]):
            best = (gain / loss, position, narrower)
    if best is None:  # no single step lowers the peak (ties): take the cheapest step among the groups that hold it
        held = _holding(problem, widths)
        candidates = [entry for entry in cuttable if entry[1] in held] or cuttable
        if not candidates:
            raise WithinError("No channel is left to cut, and a budget is still broken", todo="raise the budget")
        best = min(candidates)
    return _with_width(widths, *best[1:])


def _holding(problem: _Problem, widths: NDArray[np.int64]) -> set[int]:
    """Returns the groups on which a broken budget depends."""
    held: set[int] = set()
    for budget, limit in zip(problem.budgets, problem.limits, strict=True):
        slope, constant = linearise(problem.graph, budget, widths, problem.rules)
        for row in np.flatnonzero(constant + slope @ widths > limit):
            held |= set(np.flatnonzero(slope[row] > 0).tolist())
    return held


def _grow(problem: _Problem, widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Gives steps back, the most important first, while every exact cost stays within its limit."""
    closed: set[int] = set()
    while True:
        options = []
        for position, curve in enumerate(problem.curves):
            full = len(curve) - 1
            if position in closed or widths[position] >= full:
                continue
            wider = _wider(int(widths[position]), problem.step(position), full)
            options.append(
                (float(curve[widths[position]] - curve[wider]) / (wider - widths[position]), position, wider)
            )
        if not options:
            return widths
        for _, position, wider in sorted(options, reverse=True):
            other = _with_width(widths, position, wider)
            if problem.excess(other) <= 0:
                widths = other
                break
            closed.add(position)


def _with_width(widths: NDArray[np.int64], position: int, width: int) -> NDArray[np.int64]:
    other = widths.copy()
    other[position] = width
    return other


def _narrower(width: int, step: int) -> int:
    return (width - 1) // step * step


def _wider(width: int, step: int, full: int) -> int:
    return min(full, (width // step + 1) * step)


def _check_attainable(problem: _Problem) -> None:
    costs = problem.costs(problem.least)
    broken = [entry for entry in zip(problem.budgets, costs, problem.limits, strict=True) if entry[1] > entry[2]]
    if broken:
        budget, cost, limit = max(broken, key=lambda entry: entry[1] / entry[2])
        raise InfeasibleBudget(
            f"The budget cannot be met: {budget.cost.name} is at least {number(cost)} {budget.cost.unit} at the least "
            f"widths, and the limit is {number(limit)}",
            where=what_holds(problem.graph, budget, problem.least),
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
