"""Make a quantise-dequantise ONNX graph what integer runtimes expect: integer weights and biases in the file.

An exporter writes a quantised weight as float -> QuantizeLinear -> DequantizeLinear. Here the first two become an int8
constant, and the bias of every layer between two dequantised operands becomes int32 with the scale of their product, so
that the runtime fuses the whole into one integer kernel. The file gets four times smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from within.core.errors import WithinError

LAYERS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0}  # output channel axis of the weight
MOVING = ("Reshape", "Flatten", "Transpose", "Slice", "Pad", "MaxPool", "Squeeze", "Unsqueeze", "Expand", "Split")


@dataclass
class _Constants:
    """Initializers, Constant nodes, and what is identical to one, by name."""

    graph: onnx.GraphProto

    def __post_init__(self) -> None:
        self.values = {item.name: item for item in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.values[node.output[0]] = node.attribute[0].t
            elif node.op_type == "Identity" and node.input[0] in self.values:
                self.values[node.output[0]] = self.values[node.input[0]]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self.values[name])

    def add(self, name: str, array: NDArray[Any]) -> str:
        tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
        self.graph.initializer.append(tensor)
        self.values[name] = tensor
        return name


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores quantised weights as integers and biases as int32, clips unsigned integers; in place; returns the model.

    Raises:
        WithinError: when a weight's scale is computed in the graph, or a bias does not fit into int32.
    """
    graph = model.graph
    constants = _Constants(graph)
    for node in list(graph.node):
        if node.op_type == "QuantizeLinear" and node.input[0] in constants:
            _fold_weight(graph, constants, node)
    producers = {output: node for node in graph.node for output in node.output}
    for node in list(graph.node):
        if node.op_type == "QuantizeLinear":
            _clip_integers(graph, constants, producers, node)
    for node in list(graph.node):
        if node.op_type in LAYERS and len(node.input) > 2 and node.input[2] in constants:
            _fold_bias(graph, constants, producers, node)
    _drop_unused(graph)
    onnx.checker.check_model(model)
    return model


def _fold_weight(graph: onnx.GraphProto, constants: _Constants, node: onnx.NodeProto) -> None:
    if node.input[1] not in constants or (len(node.input) > 2 and node.input[2] not in constants):
        raise WithinError("The scale of a constant is computed in the graph", where=node.name or node.output[0])
    values, scale = constants.array(node.input[0]), constants.array(node.input[1])
    zero = constants.array(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    bounds = np.iinfo(zero.dtype)
    steps = np.rint(values / _spread(scale, values.ndim, axis)) + _spread(zero, values.ndim, axis).astype(np.float64)
    integers = np.clip(steps, bounds.min, bounds.max).astype(zero.dtype)
    name = constants.add(f"{node.input[0]}_quantized", integers)
    for user, place in _reads(graph, node.output[0]):
        user.input[place] = name
    graph.node.remove(node)


def _clip_integers(
    graph: onnx.GraphProto, constants: _Constants, producers: dict[str, onnx.NodeProto], node: onnx.NodeProto
) -> None:
    """Moves a clip from before an unsigned quantisation behind it: then the layer before it stays an integer kernel.

    Signed integers, which are for TensorRT, stay as they are: it knows no operator between the pair.
    """
    clip = producers.get(node.input[0])
    if clip is None or clip.op_type != "Clip" or len(list(_reads(graph, clip.output[0]))) != 1:
        return
    bounds = [name for name in clip.input[1:] if name]
    if len(node.input) < 3 or any(name not in constants for name in (*node.input[1:3], *bounds)):
        return
    scale, zero = constants.array(node.input[1]), constants.array(node.input[2])
    if scale.size != 1 or zero.dtype != np.uint8:
        return
    ends = []
    for place, end in ((1, 0), (2, 255)):
        given = clip.input[place] if len(clip.input) > place else ""
        value = float(np.rint(float(constants.array(given)) / float(scale))) + float(zero) if given else end
        ends.append(np.uint8(np.clip(value, 0, 255)))
    node.input[0] = clip.input[0]
    graph.node.remove(clip)
    if tuple(ends) == (0, 255):
        return  # the integers saturate there by themselves
    wide = f"{node.output[0]}_wide"
    names = [constants.add(f"{wide}_{end}", np.array(value)) for end, value in zip(("low", "high"), ends, strict=True)]
    narrow = onnx.helper.make_node("Clip", [wide, *names], [node.output[0]], name=f"{wide}_clipped")
    node.output[0] = wide
    graph.node.insert(list(graph.node).index(node) + 1, narrow)


def _fold_bias(
    graph: onnx.GraphProto, constants: _Constants, producers: dict[str, onnx.NodeProto], node: onnx.NodeProto
) -> None:
    scales: list[NDArray[Any]] = []
    for name in node.input[:2]:
        source = producers.get(name)
        if source is None or source.op_type != "DequantizeLinear" or source.input[1] not in constants:
            return
        axis = next((item.i for item in source.attribute if item.name == "axis"), 1)
        if scales and node.op_type == "ConvTranspose" and axis != 1 and constants.array(source.input[1]).size > 1:
            return  # one sum adds up weights of several scales
        scales.append(constants.array(source.input[1]).astype(np.float64))
    if scales[0].size != 1:
        return
    bias = constants.array(node.input[2])
    scale = np.broadcast_to((scales[0].reshape(()) * scales[1]).astype(np.float32), bias.shape)
    steps = np.rint(bias.astype(np.float64) / scale)
    if np.abs(steps).max(initial=0) > np.iinfo(np.int32).max:
        raise WithinError("A bias does not fit into 32-bit integers", where=node.name or node.output[0])
    base = f"{node.input[2]}_of_{node.output[0]}"
    integers = constants.add(f"{base}_quantized", steps.astype(np.int32))
    inputs = [
        integers,
        constants.add(f"{base}_scale", scale),
        constants.add(f"{base}_zero", np.zeros(bias.shape, np.int32)),
    ]
    dequantize = onnx.helper.make_node("DequantizeLinear", inputs, [f"{base}_dequantized"], name=base, axis=0)
    graph.node.insert(list(graph.node).index(node), dequantize)
    node.input[2] = f"{base}_dequantized"


def _spread(values: NDArray[Any], dimensions: int, axis: int) -> NDArray[Any]:
    if values.ndim == 0 or values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if place == axis % dimensions else 1 for place in range(dimensions)])


def _reads(graph: onnx.GraphProto, name: str) -> Iterator[tuple[onnx.NodeProto, int]]:
    for node in graph.node:
        for place, read in enumerate(node.input):
            if read == name:
                yield node, place


def _drop_unused(graph: onnx.GraphProto) -> None:
    for node in reversed(list(graph.node)):
        used = _used(graph)
        if node.op_type in ("Constant", "Identity") and node.output[0] not in used:
            graph.node.remove(node)
    used = _used(graph)
    for initializer in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(initializer)


def _used(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.input} | {output.name for output in graph.output}


def quantized_operators(model: onnx.ModelProto) -> dict[str, int]:
    """Returns how many layers and sums of each type read only dequantised tensors: those that can run on integers."""
    producers = {output: node for node in model.graph.node for output in node.output}
    counts: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type not in (*LAYERS, "MatMul", "Add", "Concat"):
            continue
        read = [_origin(producers, name) for name in node.input if name in producers]
        if read and all(source.op_type == "DequantizeLinear" for source in read):
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def _origin(producers: dict[str, onnx.NodeProto], name: str) -> onnx.NodeProto:
    """Returns the node that computed a value, before it was only moved."""
    node = producers[name]
    while node.op_type in MOVING and node.input[0] in producers:
        node = producers[node.input[0]]
    return node
