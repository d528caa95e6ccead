"""An exported quantised file against the simulation: its outputs, and every operator by itself.

The outputs alone say little on grids of few bits: one value that rounds to the other side moves everything behind it.
So every operator is simulated on what ONNX Runtime computed before it, and must come out at the same step or the next.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, fx

from within.core.device import runtime
from within.core.device.inference import evaluating
from within.core.device.runtimes import as_tuple
from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.insert import ACTIVATIONS, quantizer_of
from within.core.quantize.integer import IntegerInterpreter, integer_forward

ROUNDING = 1e-3  # of a difference in steps: scales are single precision
Key = tuple[float, int]
"""Scale and zero point of a grid: what tells the quantisers of a file from each other."""


def compare_operators(module: fx.GraphModule, path: str | Path, inputs_list: Sequence[tuple[Tensor, ...]]) -> float:
    """Returns how far any quantised tensor of the file is from its simulation on the file's own values before it.

    Arguments:
        module: the quantised module.
        path: its ONNX file.
        inputs_list: inputs to compare on.

    Returns:
        the largest difference in steps of the tensor's grid; infinite where a value is not finite, or the file has none
        of the module's grids.
    """
    model = onnx.load(str(path))
    count, names = len(model.graph.output), _activations(model)
    for name in [name for group in names.values() for name in group]:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    largest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all_tensors.onnx"
        onnx.save(model, str(file))
        session = runtime("onnxruntime").load(file)
        for inputs in inputs_list:
            values = iter(session.run(inputs)[count:])
            found = {key: [next(values) for _ in group] for key, group in names.items()}
            with evaluating(module):
                forced = _Forced(module, found)
                forced.run(*inputs)
            wrong_file = forced.expected and not forced.taken
            largest = max(largest, float("inf") if wrong_file else forced.largest)
    return largest


class _Forced(IntegerInterpreter):
    """Computes every quantised tensor, notes how far the given one is from it, and goes on with the given one."""

    def __init__(self, module: fx.GraphModule, given: dict[Key, list[Tensor]]) -> None:
        super().__init__(module)
        self.given, self.taken, self.expected, self.largest = given, defaultdict[Key, int](int), 0, 0.0

    def run_node(self, n: fx.Node) -> Any:
        own = super().run_node(n)
        quantizer = quantizer_of(self.graph_module, n)
        if quantizer is None or not str(n.target).startswith(ACTIVATIONS):
            return own
        self.expected += 1
        key = _key(quantizer)
        same = self.given.get(key, [])
        if not same:
            return own  # the exporter found that nothing reads it
        theirs = same[min(self.taken[key], len(same) - 1)]
        self.taken[key] += 1
        if theirs.shape != own.shape or not bool(torch.isfinite(theirs).all()):
            self.largest = float("inf")
            return own
        gap = (own.double() - theirs.double()).abs() / float(quantizer.scale)
        self.largest = max(self.largest, float(gap.max()) if gap.numel() else 0.0)
        return theirs


def _key(quantizer: FakeQuantize) -> Key:
    return float(np.float32(float(quantizer.scale))), int(quantizer.zero_point)


def _activations(model: onnx.ModelProto) -> dict[Key, list[str]]:
    """Returns the names of dequantised activations by the grid they are on, in order of execution."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = next(item.t for item in node.attribute if item.name == "value")
    quantized = {node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    quantized |= {node.output[0] for node in model.graph.node if node.op_type == "Clip" and node.input[0] in quantized}
    found: dict[Key, list[str]] = defaultdict(list)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized:
            scale = numpy_helper.to_array(constants[node.input[1]])
            zero = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros(())
            if scale.size == 1:
                found[float(scale.reshape(())), int(zero.reshape(()))].append(node.output[0])
    return dict(found)


def compare_on_grid(
    module: fx.GraphModule, path: str | Path, inputs_list: Sequence[tuple[Tensor, ...]], *, engine: str = "onnxruntime"
) -> tuple[float, float, float]:
    """Returns the largest difference in units of the output's grid, the share that differs, and argmax agreement.

    A unit is the scale of the quantiser that makes an output; where none does, a 255th of the output's range.
    """
    session = runtime(engine).load(path)
    steps = _output_scales(module)
    largest = 0.0
    differing = values = agreed = positions = 0
    for inputs in inputs_list:
        expected = as_tuple(integer_forward(module, *inputs))
        obtained = session.run(inputs)
        for number, (one, other) in enumerate(zip(expected, obtained, strict=True)):
            if not bool(torch.isfinite(other).all()) or one.shape != other.shape:
                return float("inf"), 1.0, 0.0
            step = steps[number] if number < len(steps) and steps[number] else float(one.max() - one.min()) / 255
            gap = (one.double() - other.double()).abs() / (step or 1.0)
            largest = max(largest, float(gap.max()) if gap.numel() else 0.0)
            differing, values = differing + int((gap > 0.5).sum()), values + gap.numel()
            if one.ndim > 1 and one.shape[1] > 1:
                same = one.argmax(1) == other.argmax(1)
                agreed, positions = agreed + int(same.sum()), positions + same.numel()
    return largest, differing / max(values, 1), agreed / positions if positions else 1.0


def _output_scales(module: fx.GraphModule) -> list[float]:
    output = next(node for node in module.graph.nodes if node.op == "output")
    found = []
    for node in torch.utils._pytree.tree_leaves(output.args[0]):
        quantizer = quantizer_of(module, node)
        found.append(float(quantizer.scale) if quantizer is not None and quantizer.ready else 0.0)
    return found
