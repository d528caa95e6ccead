"""The arms that memory-oriented pruning is compared with, all brought to the same peak memory.

`uniform`     every group keeps the same fraction.
`macs`        the same sensitivities and solver, but the budget is on multiply-accumulates; the fraction is lowered
              until the peak fits.
`magnitude`   channels ranked across all layers by their L1 norm (Li et al., ICLR 2017), one threshold for the
              network, lowered until the peak fits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from within.core.cost import Budget, Macs, PeakMemory
from within.core.errors import WithinError
from within.core.graph import Graph
from within.core.pruning.importance import l1
from within.core.pruning.widths import WidthRules, linearise
from within.core.solve import InfeasibleBudget, allowed_widths, fit_widths
from within.lowlevel.mosp import Curves

Vector = NDArray[np.int64]


def uniform(graph: Graph, limit: float, rules: WidthRules) -> Vector:
    """Returns the largest uniform fraction, in steps of the rules, whose peak fits."""
    return _largest(graph, limit, rules, lambda fraction: _uniform_widths(graph, fraction, rules))


def macs(graph: Graph, limit: float, curves: Curves, rules: WidthRules) -> Vector:
    """Returns the widths of the largest MACs budget whose peak fits."""
    return _largest(graph, limit, rules, lambda fraction: _macs_widths(graph, fraction, curves, rules))


def magnitude(graph: Graph, limit: float, rules: WidthRules) -> Vector:
    """Returns the widths of the lowest global L1 threshold whose peak fits."""
    scores = l1(graph)
    everything = np.sort(np.concatenate([scores[group.name] for group in graph.channel_groups()]))

    def widths(fraction: float) -> Vector:
        threshold = everything[min(int((1 - fraction) * len(everything)), len(everything) - 1)]
        counts = [int((scores[group.name] >= threshold).sum()) for group in graph.channel_groups()]
        return _fit_rules(graph, np.array(counts, dtype=np.int64), rules)

    return _largest(graph, limit, rules, widths)


def _largest(graph: Graph, limit: float, rules: WidthRules, widths: Callable[[float], Vector]) -> Vector:
    cost = PeakMemory()
    low, high = 0.0, 1.0
    best: Vector | None = None
    if cost(graph, widths(1.0)) <= limit:
        return widths(1.0)
    for _ in range(14):
        middle = (low + high) / 2
        try:
            candidate = widths(middle)
        except InfeasibleBudget:
            low = middle
            continue
        if cost(graph, candidate) <= limit:
            best, low = candidate, middle
        else:
            high = middle
    if best is None:
        least = rules.least(graph)
        if cost(graph, least) > limit:
            raise WithinError("No fraction of the widths brings the peak to the limit", todo="raise the budget")
        best = least
    return best


def _uniform_widths(graph: Graph, fraction: float, rules: WidthRules) -> Vector:
    sizes = graph.width_vector()
    return _fit_rules(graph, np.floor(sizes * fraction).astype(np.int64), rules)


def _fit_rules(graph: Graph, wanted: Vector, rules: WidthRules) -> Vector:
    sizes, least = graph.width_vector(), rules.least(graph)
    step = np.array([rules.step_of(int(size)) for size in sizes], dtype=np.int64)
    return np.where(wanted >= sizes, sizes, np.maximum(wanted // step * step, least))


def _macs_widths(graph: Graph, fraction: float, curves: Curves, rules: WidthRules) -> Vector:
    """Minimises the sensitivities under a MACs budget by integer programmes of the linearised count."""
    if fraction >= 1:
        return graph.width_vector()
    budget = Budget(Macs(), fraction=max(fraction, 1e-6))
    limit = budget.resolve(graph)
    groups, least = graph.channel_groups(), rules.least(graph)
    widths = graph.width_vector()
    for _ in range(60):
        current = float(budget.cost(graph, widths))
        if current <= limit:
            break
        slope, constant = linearise(graph, budget, widths, rules)
        lower = np.maximum(least, np.minimum(np.ceil(widths * 0.75).astype(np.int64), widths))
        reachable = float((constant + slope @ lower)[0])
        target = max(limit, reachable + 0.05 * (current - reachable))
        points = []
        for group, low, width in zip(groups, lower, widths, strict=True):
            allowed = allowed_widths(int(width), 1, int(low))
            points.append((allowed, np.array([curves[group.name](int(value)) for value in allowed])))
        solved = fit_widths(points, np.maximum(slope, 0), target, fixed=constant, step=1, minimum=lower.tolist())
        new = np.array(solved.widths, dtype=np.int64)
        if np.array_equal(new, widths):
            break
        widths = new
    return _fit_rules(graph, widths, rules)
