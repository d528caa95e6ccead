"""Meet a latency budget as measured: solve, cut, measure the cut model, and solve again with a corrected limit.

A predicted latency is off by a few per cent, and a search under a budget prefers widths whose prediction is too low. So
the limit given to the search starts below the target B by a margin, and each measured model of latency m at the limit L
corrects it:

    L <- L (1 - margin) B / m,   between the largest limit that fell short and the smallest that went over

until a model is measured below the target with the whole of its confidence interval, and not far below.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from torch import nn

from within.core.cost import Budget, Latency
from within.core.device.export import export_onnx
from within.core.device.measure import Timing, measure
from within.core.device.runtimes import runtime as runtime_named
from within.core.errors import WithinError
from within.core.graph import Graph
from within.core.pruning.prune import PruneResult

MARGIN = 0.035  # aimed below the target, where the calibration reports no larger error
LARGEST_MARGIN = 0.05
GUARD = 0.01  # of the target, left between the confidence interval and the target if the widths permit it
CERTAIN = 0.015  # width of the confidence interval of a ratio, relative, that needs no further rounds
LONGER = 5
COPIES = 3
SLACK = 0.045  # a model this far below the target wastes budget


@dataclass(frozen=True)
class LatencyAttempt:
    """One solution: the limit given to the search, and what was predicted and measured, all relative to dense."""

    limit: float
    predicted: float
    measured: float
    interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class MeasuredPruning:
    """A pruned model whose measured latency is within the target.

    Attributes:
        result: what the search returned.
        target: the budget, relative to the dense model as measured.
        timing: the model's measurement; `ratio` relates it to the dense model in the same rounds.
        attempts: all solutions that were measured, the returned one among them.
    """

    result: PruneResult
    target: float
    timing: Timing
    attempts: tuple[LatencyAttempt, ...]


def meet_latency(
    solve: Callable[[Budget], PruneResult], budget: Budget, graph: Graph, *, attempts: int = 8, repeats: int = 30
) -> MeasuredPruning:
    """Prunes until the measured latency meets the budget.

    Arguments:
        solve: prunes within a latency budget: `lambda budget: prune(model, inputs, budgets=[budget])`, with whatever
            other budgets and options.
        budget: on a `Latency`, better calibrated; a fraction is of the dense model as measured.
        graph: the traced dense model.
        attempts: solutions at most; one that comes again is not measured again.
        repeats: rounds of each measurement, in which the dense model runs too; more where that is not certain enough.

    Raises:
        InfeasibleBudget: when the search cannot meet a limit.
        WithinError: when the cost is no latency, or no attempt is measured within the target.
    """
    latency = budget.cost
    if not isinstance(latency, Latency):
        raise WithinError(f"The cost {latency.name} is not a measured latency", where="meet_latency", todo="Latency()")
    dense = deployed(graph.model, graph, latency)
    predicted_dense = latency(graph)
    margin = min(LARGEST_MARGIN, max(MARGIN, latency.error or 0.0))
    target = _relative(budget, predicted_dense)
    limit = target * (1 - margin)
    low, high = 0.0, math.inf
    tried: list[LatencyAttempt] = []
    seen: dict[tuple[int, ...], Timing] = {}
    met: list[tuple[float, PruneResult, Timing]] = []
    for _ in range(attempts):
        result = solve(Budget(latency, limit=limit * predicted_dense))
        widths = tuple(result.widths.values())
        known = widths in seen
        if not known:
            slim = deployed(result.model, graph, latency)
            whole, seen[widths] = relative_latency(dense, slim, threads=latency.threads, repeats=repeats)
            target = _relative(budget, whole.median * 1e3)
        timing = seen[widths]
        predicted = latency(graph, result.widths) / predicted_dense
        tried.append(LatencyAttempt(limit, predicted, timing.ratio, timing.ratio_interval))
        over = timing.ratio_interval[1] > target * (1 - GUARD)
        if timing.ratio_interval[1] <= target:
            met.append((timing.ratio, result, timing))
        if not over and timing.ratio >= target * (1 - SLACK):
            break
        low, high = (low, min(high, limit)) if over else (max(low, limit), high)
        # From the solution rather than its limit, which a step of widths may leave unused; further when that was tried.
        corrected = (limit if known else predicted) * (1 - margin) * target / timing.ratio
        limit = corrected if low < corrected < high else (low + min(high, 1.1 * low)) / 2 if low else 0.97 * high
    if not met:
        ratios = ", ".join(f"{attempt.measured:.3f}" for attempt in tried)
        raise WithinError(
            f"No solution was measured within {target:.3f} of the dense latency (measured: {ratios})",
            where=latency.name,
            todo="allow more attempts, measure on a quieter machine, or raise the budget",
        )
    _, result, timing = min(met, key=lambda solution: abs(solution[0] - target * (1 - margin)))
    return MeasuredPruning(result, target, timing, tuple(tried))


def _relative(budget: Budget, dense_milliseconds: float) -> float:
    """Returns the limit of a budget as a share of the dense latency."""
    if budget.limit is not None:
        return budget.limit / dense_milliseconds
    assert budget.fraction is not None
    return budget.fraction


def deployed(model: nn.Module, graph: Graph, latency: Latency) -> Callable[[], object]:
    """Returns a function that runs a model on the latency's runtime, on each of several loaded copies in turn.

    Where a copy happens to lie in memory makes it up to a few per cent faster or slower for all of its life.
    """
    engine = runtime_named(latency.runtime, threads=latency.threads)
    with tempfile.TemporaryDirectory() as folder:
        source: nn.Module | Path = model
        if latency.runtime == "onnxruntime":
            source = export_onnx(model, graph.inputs, Path(folder) / "model.onnx", dynamic=False).path
        copies = cycle([engine.load(source, graph.inputs) for _ in range(COPIES)])
    return lambda: next(copies).run(graph.inputs)


def relative_latency(
    dense: Callable[[], object], slim: Callable[[], object], *, threads: int = 1, repeats: int = 30
) -> tuple[Timing, Timing]:
    """Measures two models against each other, longer where a busy machine makes the ratio uncertain.

    Returns:
        the timings of the dense and the slim model; the `ratio` of the latter is what counts.
    """
    for rounds in (repeats, LONGER * repeats):
        timings = measure({"dense": dense, "slim": slim}, (), threads=threads, repeats=rounds)
        low, high = timings["slim"].ratio_interval
        if high - low <= CERTAIN * timings["slim"].ratio:
            break
    return timings["dense"], timings["slim"]
