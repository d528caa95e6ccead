"""Repair what rounding did to the statistics of each channel, layer by layer, each seeing its predecessors repaired.

    means    b' = b - (E[y_q] - E[y])              (bias correction: Nagel et al., Data-Free Quantization, ICCV 2019)
    moments  y' = (y_q - E[y_q]) sd(y) / sd(y_q) + E[y]

where y is the layer's output in floating point and y_q the quantised one, on calibration data. The second is what the
re-estimation of batch normalisation does to a layer that it follows; here it is written into weights, scales and
biases, so it also serves networks that have none, or whose batch normalisation is folded. Integers do not change: the
scale of a channel takes the factor. A smaller squared error of the weights alone is no guarantee of accuracy; this,
measured on the answer, repairs more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, fx

from within.core.device.inference import evaluating, positional
from within.core.errors import WithinError
from within.core.progress import track
from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.insert import Quantized, add_missing_biases, quantizer_of
from within.core.quantize.placement import LAYERS
from within.core.transform.editable import arguments, kind

Correction = Literal["none", "means", "moments"]
LARGEST_FACTOR = 4.0


def correct(quantized: Quantized, batches: Sequence[Any], method: Correction = "moments") -> int:
    """Corrects biases (and scales) of all quantised layers, in place; returns how many were corrected.

    Arguments:
        quantized: calibrated.
        batches: inputs, tensors or tuples of tensors. All activations of one operator are held at once.
        method: "means" or "moments"; with "none" nothing is done.

    Raises:
        WithinError: for an unknown method, or when there are no batches.
    """
    if method == "none":
        return 0
    if method not in ("means", "moments"):
        raise WithinError(f"There is no correction named {method!r}", todo="choose none, means or moments")
    if not batches:
        raise WithinError("There are no data to correct the quantised layers on", where="correct")
    module = quantized.module
    add_missing_biases(module)
    with evaluating(module), torch.no_grad():
        return _Walk(module, batches, method).run()


class _Walk:
    """Carries every batch through the graph, node by node, once in floating point and once quantised."""

    def __init__(self, module: fx.GraphModule, batches: Sequence[Any], method: Correction) -> None:
        self.module, self.method = module, method
        self.interpreter = fx.Interpreter(module)
        self.batches = [positional(batch) for batch in batches]
        self.values: dict[fx.Node, tuple[list[Any], list[Any]]] = {}
        self.uses = _uses_of_weights(module)

    def run(self) -> int:
        corrected = position = 0
        remaining = {node: len(node.users) for node in self.module.graph.nodes}
        for node in track(list(self.module.graph.nodes), "correcting layers"):
            if node.op == "output":
                break
            if node.op == "placeholder":
                given = [batch[position] for batch in self.batches]
                self.values[node] = (given, given)
                position += 1
            else:
                self.values[node] = (self._run(node, 0), self._run(node, 1))
                if self._is_correctable(node):
                    self._correct(node)
                    corrected += 1
                    weight = arguments(node)["weight"]
                    self.values[weight] = (self.values[weight][0], self._run(weight, 1))  # its scale may be new
                    self.values[node] = (self.values[node][0], self._run(node, 1))
            for read in node.all_input_nodes:
                remaining[read] -= 1
                if not remaining[read] and read.op != "get_attr":
                    del self.values[read]
        return corrected

    def _run(self, node: fx.Node, which: int) -> list[Any]:
        if node.op == "get_attr":
            return [self.interpreter.fetch_attr(str(node.target))] * len(self.batches)
        quantizer = quantizer_of(self.module, node)
        if quantizer is not None and which == 0:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            return self.values[source][0]
        results = []
        for index in range(len(self.batches)):
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda read: self.values[read][which][index])  # noqa: B023
            results.append(getattr(self.interpreter, node.op)(node.target, args, kwargs))
        return results

    def _is_correctable(self, node: fx.Node) -> bool:
        if kind(node) not in LAYERS:
            return False
        given = arguments(node)
        weight = given["weight"]
        return quantizer_of(self.module, weight) is not None and self.uses[weight.args[0]] == 1

    def _correct(self, node: fx.Node) -> None:
        channel_axis = -1 if kind(node) == "linear" else 1
        expected = _moments(self.values[node][0], channel_axis)
        obtained = _moments(self.values[node][1], channel_axis)
        weight_call, bias_node = arguments(node)["weight"], arguments(node)["bias"]
        bias = self.module.get_parameter(str(bias_node.target))
        if self.method == "means":
            bias.add_((expected[0] - obtained[0]).to(bias))
            return
        factor = expected[1] / obtained[1]
        usable = torch.isfinite(factor) & (factor > 1 / LARGEST_FACTOR) & (factor < LARGEST_FACTOR)
        factor = torch.where(usable, factor, torch.ones_like(factor))
        quantizer = self.module.get_submodule(str(weight_call.target))
        assert isinstance(quantizer, FakeQuantize)
        weight = self.module.get_parameter(str(weight_call.args[0].target))
        if quantizer.grid.axis is None or kind(node).startswith("conv_transpose"):
            factor = torch.ones_like(factor)  # one scale for all channels: only the means can be set
        else:
            shape = [-1, *[1] * (weight.dim() - 1)]
            weight.mul_(factor.reshape(shape).to(weight))
            quantizer.scale.mul_(factor.reshape([-1, *[1] * (quantizer.scale.dim() - 1)]).to(quantizer.scale))
        bias.copy_((factor * (bias.double() - obtained[0]) + expected[0]).to(bias))


def _moments(values: list[Tensor], axis: int) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of each channel over everything else, in double precision."""
    rows = [value.movedim(axis, 0).reshape(value.shape[axis], -1) for value in values]
    count = sum(row.shape[1] for row in rows)
    mean = torch.stack([row.double().sum(1) for row in rows]).sum(0) / count
    variance = torch.stack([(row.double() - mean[:, None]).square().sum(1) for row in rows]).sum(0) / count
    return mean, variance.sqrt()


def _uses_of_weights(module: fx.GraphModule) -> dict[fx.Node, int]:
    """Returns how many layers read each parameter node."""
    uses: dict[fx.Node, int] = {}
    for node in module.graph.nodes:
        if kind(node) in LAYERS:
            weight = arguments(node)["weight"]
            source = weight.args[0] if weight.op == "call_module" else weight
            uses[source] = uses.get(source, 0) + 1
    return uses
