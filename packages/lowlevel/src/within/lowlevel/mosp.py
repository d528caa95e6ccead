"""Memory-oriented structured pruning: widths that bring the peak of the activations down to a limit.

Shi, Ning, Guo, Zhao, Liu, Cai, Dong, Yang, Wang: Memory-Oriented Structural Pruning for Efficient Image Restoration,
AAAI 2023. Outer loop: find the operators at the peak and take one memory stride off them. Inner step: distribute that
over the channel groups alive there by a linear programme,

    min sum_g s_g D_g   s.t.   sum_g a_tau,g D_g >= M_tau - target  for every tau above the target,  0 <= D_g <= cap_g,

with s_g the marginal sensitivity at the current width; round up, so that the target holds; repeat until the peak fits.
`whole` solves the same problem in one integer programme over all widths instead of in strides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.cost import PeakMemory
from within.core.graph import Graph
from within.core.pruning.sensitivity import SensitivityCurve
from within.core.pruning.widths import WidthRules
from within.core.solve import InfeasibleBudget, allowed_widths, fit_widths, linear_step

Curves = Mapping[str, SensitivityCurve]


@dataclass(frozen=True)
class MemoryStep:
    """One outer iteration: peak before and after, and what each group gave up."""

    peak_before: int
    peak_after: int
    target: float
    removed: Mapping[str, int]


@dataclass(frozen=True)
class MemorySolution:
    """Widths whose peak is within the limit.

    Attributes:
        widths: atoms kept in each group, in the order of the graph's groups.
        peak: bytes at those widths.
        loss: summed sensitivity.
        steps: what each iteration did (none for the integer programme).
        gap: optimality gap (of the integer programme; not known for the iteration: None).
    """

    widths: NDArray[np.int64]
    peak: int
    loss: float
    steps: tuple[MemoryStep, ...]
    gap: float | None


def strides(
    graph: Graph,
    limit: float,
    curves: Curves,
    rules: WidthRules,
    *,
    stride: float = 0.05,
    largest_cut: float = 0.25,
    peak_memory: PeakMemory | None = None,
) -> MemorySolution:
    """Brings the peak to the limit stride by stride.

    Arguments:
        graph: the dense graph at the input size for which the limit must hold.
        limit: bytes.
        curves: sensitivity of every group.
        rules: step, least widths and protected groups.
        stride: what each iteration takes off, as a fraction of the dense peak.
        largest_cut: most of its current width that a group gives up in one iteration.
        peak_memory: the cost (live_graph by default).

    Raises:
        InfeasibleBudget: when some operator cannot come down to the limit, naming it and what holds it.
    """
    cost = peak_memory or PeakMemory()
    groups = graph.channel_groups()
    names = [group.name for group in groups]
    least = rules.least(graph)
    step = np.array([rules.step_of(group.size) for group in groups], dtype=np.int64)
    widths = graph.width_vector()
    dense_peak = cost(graph, widths)
    history: list[MemoryStep] = []
    while (peak := cost(graph, widths)) > limit:
        target = max(limit, peak - stride * dense_peak)
        slope, constant = cost.rows(graph, widths)
        memory = constant + slope @ widths
        above = np.flatnonzero(memory > target)
        matrix = np.maximum(slope[above], 0)
        sensitivity = np.array(
            [curves[name].marginal(int(width), int(q)) for name, width, q in zip(names, widths, step, strict=True)]
        )
        room = np.maximum(widths - least, 0).astype(np.float64)
        removed = None
        for cap in (largest_cut, 0.5, 1.0):  # a stride may need more of a narrow group than the usual share
            try:
                removed = linear_step(
                    sensitivity + 1e-12,
                    matrix,
                    memory[above] - target,
                    np.minimum(room, np.maximum(np.ceil(cap * widths / step) * step, step)),
                    step=1.0,
                    group_names=names,
                    row_names=[_row(graph, index) for index in above.tolist()],
                )
                break
            except InfeasibleBudget:
                if cap == 1.0:
                    raise
        assert removed is not None
        new = _rounded(widths - np.array(removed.removed, dtype=np.int64), step, least, widths)
        after = cost(graph, new)
        history.append(
            MemoryStep(
                peak,
                after,
                float(target),
                {name: int(a - b) for name, a, b in zip(names, widths, new, strict=True) if a > b},
            )
        )
        if np.array_equal(new, widths):
            raise AssertionError("a stride that removes nothing")
        widths = new
    widths = give_back(graph, limit, curves, rules, widths, cost)
    loss = sum(curves[name](int(width)) for name, width in zip(names, widths, strict=True))
    return MemorySolution(widths, int(cost(graph, widths)), loss, tuple(history), None)


def whole(
    graph: Graph, limit: float, curves: Curves, rules: WidthRules, *, peak_memory: PeakMemory | None = None
) -> MemorySolution:
    """Solves all widths at once: min sum_g S_g(k_g) s.t. M_tau(k) <= limit for every operator tau.

    Raises:
        InfeasibleBudget: when no widths fit.
    """
    cost = peak_memory or PeakMemory()
    groups = graph.channel_groups()
    widths = graph.width_vector()
    least = rules.least(graph)
    gap = 0.0
    for _ in range(20):  # once, where memory is linear in the widths; attention scores are products of two
        slope, constant = cost.rows(graph, widths)
        points = []
        for group, low in zip(groups, least, strict=True):
            allowed = allowed_widths(group.size, rules.step_of(group.size), int(low))
            points.append((allowed, np.array([curves[group.name](int(width)) for width in allowed])))
        solved = fit_widths(
            points,
            np.maximum(slope, 0),
            limit,
            fixed=constant,
            step=[rules.step_of(group.size) for group in groups],
            minimum=least.tolist(),
            group_names=[group.name for group in groups],
            row_names=[_row(graph, index) for index in range(len(graph.operators))],
        )
        widths, gap = np.array(solved.widths, dtype=np.int64), solved.gap
        if cost(graph, widths) <= limit:
            break
    widths = give_back(graph, limit, curves, rules, widths, cost)
    loss = sum(curves[group.name](int(width)) for group, width in zip(groups, widths, strict=True))
    return MemorySolution(widths, int(cost(graph, widths)), loss, (), gap)


def give_back(
    graph: Graph,
    limit: float,
    curves: Curves,
    rules: WidthRules,
    widths: NDArray[np.int64],
    cost: PeakMemory,
) -> NDArray[np.int64]:
    """Widens groups again, the most sensitive first, while the peak stays within the limit."""
    groups = graph.channel_groups()
    widths = widths.copy()
    closed: set[int] = set()
    while len(closed) < len(groups):
        gains = []
        for position, group in enumerate(groups):
            if position in closed or widths[position] >= group.size:
                closed.add(position)
                continue
            step = rules.step_of(group.size)
            wider = min(group.size, int(widths[position]) // step * step + step)
            curve = curves[group.name]
            gains.append(((curve(int(widths[position])) - curve(wider)) / (wider - widths[position]), position, wider))
        for _, position, wider in sorted(gains, reverse=True):
            other = widths.copy()
            other[position] = wider
            if cost(graph, other) <= limit:
                widths = other
                break
            closed.add(position)
    return widths


def _rounded(
    wanted: NDArray[np.int64], step: NDArray[np.int64], least: NDArray[np.int64], current: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rounds shrunk widths down to multiples of the step, never below the least width."""
    down = wanted // step * step
    rounded: NDArray[np.int64] = np.where(wanted < current, np.maximum(down, least), current)
    return rounded


def _row(graph: Graph, index: int) -> str:
    op = graph.operators[index]
    return f"{op.name} ({'x'.join(map(str, op.shape)) if op.shapes else ''})"
