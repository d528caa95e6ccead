"""An ONNX graph as the layers that a builder sees: constants folded, shapes and types inferred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from within.core.device.dla_checks import Layer, Shape
from within.core.errors import WithinError

_SMALL = 4096  # elements; larger constants are known to be constant, their values are not needed
_UNKNOWN = np.array(np.nan)


@dataclass(frozen=True, eq=False)
class LayerGraph:
    """The layers of a graph in topological order.

    Attributes:
        layers: all nodes but those that are folded or pass their input on.
        before: for each layer, the positions of the layers that it reads from.
        inputs: names of the graph's inputs.
        shapes: sizes of every tensor; None for an open size.
        types: element type of every tensor, in ONNX's words.
        quantised: how many nodes quantise or dequantise.
        weight_types: element types of the stored floating-point constants.
    """

    layers: tuple[Layer, ...]
    before: tuple[frozenset[int], ...]
    inputs: tuple[str, ...]
    shapes: Mapping[str, Shape]
    types: Mapping[str, str]
    quantised: int
    weight_types: frozenset[str]


def read_model(path_or_model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model of a file, or the model itself.

    Raises:
        WithinError: when the file cannot be read, is not ONNX, or holds no operators.
    """
    if isinstance(path_or_model, onnx.ModelProto):
        model, where = path_or_model, "the model"
    else:
        where = str(path_or_model)
        try:
            model = onnx.load(where)
        except OSError as error:
            raise WithinError(f"Could not read the file: {error.strerror or error}", where=where) from error
        except Exception as error:  # protobuf and onnx raise types of their own
            raise WithinError(
                f"The file is not an ONNX model ({type(error).__name__}: {str(error)[:200]})",
                where=where,
                todo="export it again, for instance with `within export`",
            ) from error
    if not model.graph.node:
        raise WithinError("The model holds no operators", where=where, todo="export it again; the file may be cut off")
    return model


def layer_graph(model: onnx.ModelProto, precision: str, passing: frozenset[str]) -> LayerGraph:
    """Returns the layers of a model.

    Arguments:
        model: left as it is.
        precision: what every layer is built in.
        passing: operators that are no layers: the builder removes them or makes them part of their neighbours.
    """
    graph = _inferred(model).graph
    shapes, types = _tensors(graph)
    constants = _constants(model, graph)
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    layers: list[Layer] = []
    before: list[frozenset[int]] = []
    sources: dict[str, frozenset[int]] = {}
    for node in graph.node:
        read = frozenset[int]().union(*(sources.get(name, frozenset()) for name in node.input))
        if node.output[0] in constants:
            continue
        if node.op_type not in passing:
            layers.append(
                Layer(
                    name=node.name or node.output[0],
                    operator=node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}",
                    attributes={item.name: onnx.helper.get_attribute_value(item) for item in node.attribute},
                    inputs=tuple(node.input),
                    outputs=tuple(node.output),
                    shapes=shapes,
                    constants=constants,
                    consumers=tuple(readers.get(node.output[0], ())),
                    precision=precision,
                )
            )
            before.append(read)
            read = frozenset([len(layers) - 1])
        sources.update((name, read) for name in node.output)
    return LayerGraph(
        layers=tuple(layers),
        before=tuple(before),
        inputs=tuple(item.name for item in graph.input if item.name not in constants),
        shapes=shapes,
        types=types,
        quantised=sum(
            node.op_type.endswith("QuantizeLinear") or node.op_type == "DequantizeLinear" for node in graph.node
        ),
        weight_types=frozenset(_type(item.data_type) for item in graph.initializer if item.dims),
    )


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # too large, or an operator of another domain: what the file says has to do
        return model


def _tensors(graph: onnx.GraphProto) -> tuple[dict[str, Shape], dict[str, str]]:
    shapes: dict[str, Shape] = {}
    types: dict[str, str] = {}
    for item in [*graph.input, *graph.value_info, *graph.output]:
        tensor = item.type.tensor_type
        types[item.name] = _type(tensor.elem_type)
        if tensor.HasField("shape"):
            shapes[item.name] = tuple(
                size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim
            )
    for stored in graph.initializer:
        shapes[stored.name], types[stored.name] = tuple(stored.dims), _type(stored.data_type)
    return shapes, types


def _constants(model: onnx.ModelProto, graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """Returns stored tensors and what is computed from them alone."""
    opsets = {item.domain: item.version for item in model.opset_import}
    constants = {item.name: _value(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" or (node.input and all(not name or name in constants for name in node.input)):
            values = _evaluated(node, constants, opsets)
            constants.update(zip(node.output, values, strict=True))
    return constants


def _value(stored: onnx.TensorProto) -> NDArray[Any]:
    return numpy_helper.to_array(stored) if int(np.prod(stored.dims)) <= _SMALL else _UNKNOWN


def _evaluated(
    node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]], opsets: Mapping[str, int]
) -> list[NDArray[Any]]:
    inputs = {name: constants[name] for name in node.input if name}
    if any(value is _UNKNOWN for value in inputs.values()):
        return [_UNKNOWN] * len(node.output)
    try:
        return [np.asarray(value) for value in ReferenceEvaluator(node, opsets=dict(opsets)).run(None, inputs)]
    except Exception:  # an operator without a reference: constant all the same
        return [_UNKNOWN] * len(node.output)


def _type(number: int) -> str:
    return str(onnx.TensorProto.DataType.Name(number))
