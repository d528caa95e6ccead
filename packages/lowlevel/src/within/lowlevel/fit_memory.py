"""Fits a restoration network into a limit on its peak memory: the whole method, before fine-tuning.

free transforms -> compactors on long skips -> input statistics -> elimination order and measured sensitivities
-> widths within the limit -> least-squares repair -> cut -> recount
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from within.core.cost import PeakMemory
from within.core.errors import WithinError
from within.core.graph import Graph, trace
from within.core.plan import Plan, Step, input_specs
from within.core.pruning.importance.elimination import elimination
from within.core.pruning.masked import masked_slim_error
from within.core.pruning.prune import cut_step, keep_most_important
from within.core.pruning.reconstruction import reconstruct
from within.core.pruning.sensitivity import SensitivityCurve, probe
from within.core.pruning.slim import slim
from within.core.pruning.statistics import Moments, input_moments
from within.core.pruning.widths import WidthRules
from within.core.solve import InfeasibleBudget
from within.lowlevel import baselines, compactor, mosp

Method = Literal["strides", "whole", "uniform", "macs", "magnitude"]
METHODS: dict[str, str] = {
    "strides": "memory-oriented pruning, stride by stride",
    "whole": "memory-oriented pruning, one integer programme",
    "uniform": "every group keeps the same fraction",
    "macs": "the same sensitivities under a MACs budget, lowered until the peak fits",
    "magnitude": "one L1 threshold for the network, lowered until the peak fits",
}


@dataclass(frozen=True)
class Measured:
    """What calibration says about a network: it serves every method and every limit.

    Attributes:
        deployed: graph at the size for which the limit holds.
        calibrated: graph at the size of the calibration patches.
        moments, ranks, curves: input statistics, importance of every atom, sensitivity of every group.
        steps: plan steps that led from the network as given to the one measured.
        skips: the long skips that carry compactors.
    """

    deployed: Graph = field(repr=False)
    calibrated: Graph = field(repr=False)
    moments: dict[str, Moments] = field(repr=False)
    ranks: dict[str, NDArray[np.float64]] = field(repr=False)
    curves: dict[str, SensitivityCurve] = field(repr=False)
    steps: tuple[Step, ...]
    skips: tuple[compactor.LongSkip, ...] = ()


@dataclass(frozen=True, eq=False)
class MemoryFit:
    """A network within its limit.

    Attributes:
        model: the slim network, repaired but not fine-tuned.
        plan: makes it from a freshly built dense network.
        method: how the widths were found.
        limit: bytes.
        peak: live_graph peak recounted on the slim network, at the deployed size.
        measured: what the decision was read off.
        widths: atoms kept in each group of `measured.deployed`.
        gap: optimality gap, where the method has a bound.
        masked_slim_error: relative difference from the masked network.
        steps: the strides taken.
    """

    model: nn.Module
    plan: Plan
    method: str
    limit: float
    peak: int
    measured: Measured = field(repr=False)
    widths: NDArray[np.int64]
    gap: float | None
    masked_slim_error: float
    steps: tuple[mosp.MemoryStep, ...] = ()


def measure_network(
    model: nn.Module,
    inputs: Sequence[Tensor],
    batches: Sequence[Any],
    *,
    compactors: bool | Sequence[compactor.LongSkip] = False,
    steps: Sequence[Step] = (),
    probe_batches: int = 1,
    known: dict[Hashable, float] | None = None,
) -> Measured:
    """Measures a network on calibration data.

    Arguments:
        model: the network; not modified.
        inputs: example inputs at the size for which the limit shall hold.
        batches: calibration inputs, patches of one size.
        compactors: True puts them on all long skips; or the skips to put them on.
        steps: plan steps that made `model`.
        probe_batches: how many of the batches the sensitivities are measured on.
        known: losses of the same network with other compactors; see `probe`.
    """
    if not batches:
        raise WithinError("There are no calibration data", where="fit_memory")
    first = batches[0] if isinstance(batches[0], (tuple, list)) else (batches[0],)
    done = tuple(steps)
    skips: tuple[compactor.LongSkip, ...] = ()
    network = model
    if compactors:
        skips = compactor.long_skips(trace(model, inputs)) if compactors is True else tuple(compactors)  # type: ignore[arg-type]
        if skips:
            arguments = compactor.step_arguments(skips)
            network = compactor.insert(model, inputs, **arguments)
            done = (*done, Step(compactor.FUNCTION, arguments))
    calibrated = trace(network, first)
    moments = input_moments(calibrated, batches)
    if skips and compactor.rebase(calibrated, moments):
        moments = input_moments(calibrated, batches)
    ranks = elimination(calibrated, moments=moments)
    curves = probe(calibrated, ranks, moments, list(batches)[:probe_batches], known=known)
    return Measured(trace(network, inputs), calibrated, moments, ranks, curves, done, skips)


def choose_widths(
    measured: Measured, limit: float, rules: WidthRules, method: Method = "whole", *, stride: float = 0.05
) -> mosp.MemorySolution:
    """Returns widths whose predicted peak is within the limit, by one of `METHODS`.

    Raises:
        InfeasibleBudget: when no allowed widths fit.
        WithinError: for an unknown method.
    """
    graph, curves = measured.deployed, measured.curves
    if method == "strides":
        return mosp.strides(graph, limit, curves, rules, stride=stride)
    if method == "whole":
        return mosp.whole(graph, limit, curves, rules)
    if method == "uniform":
        widths = baselines.uniform(graph, limit, rules)
    elif method == "macs":
        widths = baselines.macs(graph, limit, curves, rules)
    elif method == "magnitude":
        widths = baselines.magnitude(graph, limit, rules)
    else:
        raise WithinError(f"There is no method {method!r}", todo=f"choose one of {', '.join(METHODS)}")
    loss = sum(curves[group.name](int(k)) for group, k in zip(graph.channel_groups(), widths, strict=True))
    return mosp.MemorySolution(widths, int(PeakMemory()(graph, widths)), loss, (), None)


def fit_memory(
    model: nn.Module,
    inputs: Sequence[Tensor],
    batches: Sequence[Any],
    limit: float,
    *,
    method: Method = "whole",
    compactors: bool = True,
    rules: WidthRules | None = None,
    stride: float = 0.05,
    measured: Measured | None = None,
    plan: Plan | None = None,
) -> MemoryFit:
    """Brings the live_graph peak of a network at the size of `inputs` within `limit` bytes.

    Arguments:
        model: the network (after free transforms, if any); not modified.
        inputs: example inputs at the size for which the limit shall hold.
        batches: calibration inputs, patches of one size: tensors, or tuples of them.
        limit: bytes.
        method: see `METHODS`.
        compactors: offer compactors on long skips; those that the solver leaves at full width are taken out again.
        rules: allowed widths (steps of 4 by default).
        stride: of the method "strides", as a fraction of the dense peak.
        measured: from `measure_network`, to share it among methods and limits.
        plan: the plan that made `model`, when it is not the network as built.

    Raises:
        InfeasibleBudget: when the limit cannot be met, with the operator and what holds it.
        WithinError: on NaN in data or weights, and where a rule is wrong (masked and slim network differ).
    """
    rules = rules or WidthRules(step=4)
    base = plan or Plan(type(model).__name__, input_specs(inputs))
    solution: mosp.MemorySolution | None = None
    if measured is None:
        offered: bool | tuple[compactor.LongSkip, ...] = compactors
        known: dict[Hashable, float] = {}
        for _ in range(3):
            measured = measure_network(model, inputs, batches, compactors=offered, steps=base.steps, known=known)
            solution = choose_widths(measured, limit, rules, method, stride=stride)
            cut = compactor.widths_of_compactors(measured.deployed, solution.widths)
            useful = tuple(skip for number, skip in enumerate(measured.skips) if _is_cut(cut.get(number)))
            if len(useful) == len(measured.skips):
                break
            offered, solution = useful or False, None
    assert measured is not None
    target = float(limit)
    for _ in range(4):
        solution = solution or choose_widths(measured, target, rules, method, stride=stride)
        kept = keep_most_important(measured.deployed, measured.ranks, solution.widths)
        repaired = reconstruct(measured.calibrated, kept, measured.moments)
        graph = trace(repaired, inputs)
        slim_model = slim(graph, kept)
        peak = int(PeakMemory()(trace(slim_model, inputs)))
        if peak <= limit:
            break
        # the rewritten graph holds something that the prediction did not know
        target, solution = target * limit / peak * 0.999, None
    else:
        raise InfeasibleBudget(f"The slim network keeps {peak:,} bytes alive, and the limit is {limit:,.0f}")
    first = batches[0] if isinstance(batches[0], (tuple, list)) else (batches[0],)
    error = masked_slim_error(trace(repaired, first), kept, slim_model)
    if not error < 1e-3:
        raise WithinError(
            f"The slim network differs from the masked one by {error:.2g} (relative)", todo="report this network"
        )
    slim_model.train(model.training)
    steps = (*measured.steps, cut_step(measured.deployed, kept))
    provenance = dict(base.provenance) | {"method": method, "limit": limit, "torch": torch.__version__}
    full = Plan(base.model, base.inputs, steps, provenance)
    return MemoryFit(
        slim_model, full, method, limit, peak, measured, solution.widths, solution.gap, error, solution.steps
    )


def _is_cut(widths: tuple[int, int] | None) -> bool:
    return widths is not None and widths[0] < widths[1]
