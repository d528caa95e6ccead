"""Sensitivity: how much worse the network's answer gets when one channel group alone is cut, at several widths.

    S_g(k) = mean || f(x; group g cut to k, its readers refitted) - f(x) ||^2 over calibration data,

measured at a few widths, made monotone by isotonic regression and convex by the lower hull. Small changes of an output
add up, so the sum over groups is what an integer programme over all widths may minimise.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from within.core.device.inference import positional
from within.core.graph import Graph
from within.core.graph.channel_groups import ChannelGroup
from within.core.progress import track
from within.core.pruning.reconstruction import consumers, fit_layer, input_axis, layer_tensors, matrix_of, weight_of
from within.core.pruning.slim import tensors
from within.core.pruning.statistics import Moments
from within.core.solve import sensitivity_curve


@dataclass(frozen=True)
class SensitivityCurve:
    """The loss of one group at measured widths.

    Attributes:
        widths: atoms kept, ascending; the last is the full width.
        losses: monotone, convex loss at each; 0 at the full width.
        measured: the loss as measured.
    """

    widths: tuple[int, ...]
    losses: tuple[float, ...]
    measured: tuple[float, ...]

    def __call__(self, width: float) -> float:
        """Returns the loss at any width, linear between the measured ones (and beyond the smallest one)."""
        if width < self.widths[0] and len(self.widths) > 1:
            slope = (self.losses[1] - self.losses[0]) / (self.widths[1] - self.widths[0])
            return self.losses[0] + slope * (width - self.widths[0])
        return float(np.interp(width, self.widths, self.losses))

    def marginal(self, width: int, step: int) -> float:
        """Returns the loss for one more channel removed at a width, over the next `step` channels."""
        lower = max(width - step, 1)
        return max((self(lower) - self(width)) / max(width - lower, 1), 0.0)


def probe(
    graph: Graph,
    ranks: Mapping[str, NDArray[np.float64]],
    moments: Mapping[str, Moments],
    batches: Sequence[Any],
    *,
    fractions: Sequence[float] = (0.125, 0.25, 0.5, 0.75),
    known: dict[Hashable, float] | None = None,
) -> dict[str, SensitivityCurve]:
    """Returns the measured curve of every group.

    Arguments:
        graph: a graph traced at the shape of one batch.
        ranks: importance of each atom: the least important go first.
        moments: input statistics of every layer, for the refit.
        batches: inputs, a tensor or a tuple of tensors each.
        fractions: widths to measure, besides the full width (loss 0).
        known: losses measured on another form of the same function, by what a cut changes; those that are missing
            are added, those that are there are not measured again.
    """
    known = {} if known is None else known
    model = copy.deepcopy(graph.model).eval()
    arguments = [positional(batch) for batch in batches]
    model.requires_grad_(False)
    with torch.no_grad():
        reference = [tensors(model(*batch)) for batch in arguments]
    curves = {}
    for group in track(graph.channel_groups(), "probing groups"):
        order = np.argsort(-np.asarray(ranks[group.name]), kind="stable")
        readers = _readers(graph, model, group)
        widths = sorted({max(1, round(fraction * group.size)) for fraction in fractions} - {group.size})
        losses = []
        for width in widths:
            kept = np.zeros(group.size, dtype=bool)
            kept[order[:width]] = True
            key = (readers, kept.tobytes())
            if key not in known:
                known[key] = _loss_without(graph, model, group, kept, moments, arguments, reference)
            losses.append(known[key])
        points, measured = [*widths, group.size], [*losses, 0.0]
        smooth = sensitivity_curve(points, measured) if len(points) > 1 else np.zeros(1)
        curves[group.name] = SensitivityCurve(
            tuple(points), tuple(np.maximum(smooth, 0.0).tolist()), tuple(float(loss) for loss in measured)
        )
    return curves


def _readers(graph: Graph, model: nn.Module, group: ChannelGroup) -> Hashable:
    """Returns what tells a cut of this group apart: the layers that read it, their weights, where its atoms are."""
    readers = []
    for op, atoms in consumers(graph, group):
        weight, _ = layer_tensors(graph, op, model)
        readers.append((graph.parameters[op["weight"].name], weight.cpu().numpy().tobytes(), atoms.tobytes()))
    return tuple(readers)


def _loss_without(graph, model, group, kept, moments, arguments, reference) -> float:  # type: ignore[no-untyped-def]
    """Returns the mean squared change of the output with a group cut in `model`; the model is restored afterwards."""
    saved = []
    try:
        with torch.no_grad():
            for op, atoms in consumers(graph, group):
                weight, bias = layer_tensors(graph, op, model)
                saved.append((weight, weight.clone(), bias, None if bias is None else bias.clone()))
                channels = np.flatnonzero((atoms < 0) | kept[np.maximum(atoms, 0)])
                name = graph.parameters[op["weight"].name]
                if name in moments:
                    fitted, shift, _ = fit_layer(
                        matrix_of(op, weight), bias is not None, moments[name], channels, weight.shape[input_axis(op)]
                    )
                    weight.copy_(weight_of(op, fitted, weight))
                    if bias is not None and shift is not None and not op.kind.startswith("conv_transpose"):
                        bias.add_(shift.to(bias))
                else:
                    gone = np.setdiff1d(np.arange(weight.shape[input_axis(op)]), channels)
                    weight.index_fill_(input_axis(op), torch.from_numpy(gone), 0)
            total, count = 0.0, 0
            for batch, expected in zip(arguments, reference, strict=True):
                for output, target in zip(tensors(model(*batch)), expected, strict=True):
                    total += float((output - target).double().square().sum())
                    count += target.numel()
            return total / max(count, 1)
    finally:
        with torch.no_grad():
            for weight, old_weight, bias, old_bias in reversed(saved):
                weight.copy_(old_weight)
                if bias is not None and old_bias is not None:
                    bias.copy_(old_bias)
