"""The tests that the rules of DLA name: each takes a layer and the limits, and says what is wrong or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

Limits = Mapping[str, Any]
Shape = tuple[int | None, ...]
_OUTPUT_ORDER = ("height", "width")
# what ONNX means by an absent attribute; kernel_shape is taken from the weights
_DEFAULTS: Mapping[str, Any] = {"group": 1, "mode": "nearest", "nearest_mode": "round_prefer_floor"}


@dataclass(frozen=True, eq=False)
class Layer:
    """A node of the graph with what the rules ask about.

    Attributes:
        name: of the node, or of its first output where it has none.
        operator: its ONNX operator.
        attributes: as Python values.
        inputs, outputs: names of the tensors.
        shapes: sizes of every tensor of the graph by name; None for an open size; absent when unknown.
        constants: values of the tensors that are known, by name.
        consumers: operators that read the first output.
        precision: "fp16" or "int8".
    """

    name: str
    operator: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape]
    constants: Mapping[str, NDArray[Any]]
    consumers: tuple[str, ...]
    precision: str

    def ints(self, attribute: str) -> list[int]:
        """Returns a list-valued or single integer attribute; ONNX's default is an empty list where it has no effect."""
        value = self.attributes.get(attribute, _DEFAULTS.get(attribute, []))
        if attribute == "kernel_shape" and not value and len(self.inputs) > 1:
            value = list(self.shapes.get(self.inputs[1], ()))[2:]
        return [int(item) for item in value] if isinstance(value, (list, tuple)) else [int(value)]

    def text(self, attribute: str, default: str = "") -> str:
        """Returns a text attribute."""
        value = self.attributes.get(attribute, _DEFAULTS.get(attribute, default))
        return value.decode() if isinstance(value, bytes) else str(value)

    def shape(self, position: int = 0) -> Shape | None:
        """Returns the sizes of an input."""
        return self.shapes.get(self.inputs[position]) if position < len(self.inputs) else None

    @property
    def output_shape(self) -> Shape | None:
        """The sizes of the first output."""
        return self.shapes.get(self.outputs[0])

    def activations(self) -> list[str]:
        """Returns the names of the inputs and outputs that are computed, not constants."""
        return [name for name in (*self.inputs, *self.outputs) if name and name not in self.constants]


def spatial_axes(layer: Layer, limits: Limits) -> str | None:
    axes = len(layer.ints("kernel_shape"))
    return f"it has {axes} spatial axes, DLA takes {limits['axes']}" if axes != limits["axes"] else None


def between(layer: Layer, limits: Limits) -> str | None:
    values = layer.ints(limits["attribute"])
    if all(limits["least"] <= value <= limits["most"] for value in values):
        return None
    span = f"from {limits['least']} to {limits['most']}" if limits["most"] > limits["least"] else f"{limits['least']}"
    return f"{limits['attribute']} is {_product(values)}, DLA takes {span}"


def between_or_line(layer: Layer, limits: Limits) -> str | None:
    values = layer.ints(limits["attribute"])
    if len(values) == 2 and min(values) == 1 and max(values) in limits["line"]:
        return None
    return between(layer, limits)


def padding_below_kernel(layer: Layer, limits: Limits) -> str | None:
    pads, kernel = layer.ints("pads"), layer.ints("kernel_shape")
    if all(pad < size for pad, size in zip(pads, kernel * 2, strict=False)):
        return None
    return f"pads is {_product(pads)}, not below the kernel, {_product(kernel)}"


def one_of(layer: Layer, limits: Limits) -> str | None:
    values = layer.ints(limits["attribute"])
    if all(value in limits["values"] for value in values):
        return None
    return f"{limits['attribute']} is {_product(values)}, DLA takes {', '.join(map(str, limits['values']))}"


def constant_weights(layer: Layer, limits: Limits) -> str | None:
    if layer.operator == "MatMul" and layer.inputs[0] in layer.constants:
        return "the first factor is constant and the second is computed; DLA takes the opposite"
    computed = [name for name in layer.inputs[1:] if name and name not in layer.constants]
    return f"{computed[0]} is computed, not constant" if computed else None


def constant_slope(layer: Layer, limits: Limits) -> str | None:
    return None if layer.inputs[1] in layer.constants else "the slope is computed, not constant"


def constant_indices(layer: Layer, limits: Limits) -> str | None:
    computed = [name for name in layer.inputs[1:] if name and name not in layer.constants]
    return f"{computed[0]} is computed, not constant" if computed else None


def resize_mode(layer: Layer, limits: Limits) -> str | None:
    mode = layer.text("mode")
    return None if mode in limits["modes"] else f"mode is {mode}, DLA takes {' or '.join(limits['modes'])}"


def resize_coordinates(layer: Layer, limits: Limits) -> str | None:
    mode, coordinates = layer.text("mode"), layer.text("coordinate_transformation_mode", "half_pixel")
    rounding = layer.text("nearest_mode")
    if mode == "nearest" and [coordinates, rounding] not in limits["nearest"]:
        return f"coordinates are {coordinates} with rounding {rounding}, which DLA does not have for nearest"
    if mode == "linear" and coordinates not in limits["linear"]:
        return f"coordinates are {coordinates}, DLA takes half_pixel for linear"
    return None


def resize_scale(layer: Layer, limits: Limits) -> str | None:
    before, after = layer.shape(), layer.output_shape
    if before is None or after is None or None in before or None in after:
        return None  # reported as a shape that is not fixed
    if len(before) != 4 or before[:2] != after[:2]:
        return f"it resizes {_product(before)} to {_product(after)}, DLA changes height and width of four axes only"
    most = limits.get(layer.text("mode"), max(limits.values()))
    scales = [float(new or 0) / float(old or 1) for new, old in zip(after[2:], before[2:], strict=True)]
    if all(scale.is_integer() and 1 <= scale <= most for scale in scales):
        return None
    given = " and ".join(f"{scale:g}" for scale in scales)
    return f"it scales {' and '.join(_OUTPUT_ORDER)} by {given}, DLA takes whole factors from 1 to {most}"


def clip_range(layer: Layer, limits: Limits) -> str | None:
    bounds: list[float] = []
    for position, attribute, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        name = layer.inputs[position] if position < len(layer.inputs) else ""
        if name and name not in layer.constants:
            return f"{name} is computed, not constant"
        bounds.append(float(layer.constants[name]) if name else float(layer.attributes.get(attribute, default)))
    if bounds[0] == 0 and limits["least"] <= bounds[1] <= limits["most"]:
        return None
    return f"it clips to {bounds[0]:g} .. {bounds[1]:g}, DLA takes 0 .. {limits['least']} to {limits['most']}"


def channel_axis(layer: Layer, limits: Limits) -> str | None:
    shape, axis = layer.output_shape, layer.ints("axis")[0]
    if shape is None:
        return None
    channels = max(len(shape) - 3, 1)  # of two axes, batch and channels, the latter
    return None if axis % len(shape) == channels else f"axis is {axis} of {len(shape)}, DLA joins channels only"


def softmax_size(layer: Layer, limits: Limits) -> str | None:
    shape = layer.shape()
    if shape is None or None in shape:
        return None
    axis = int(layer.attributes.get("axis", -1)) % len(shape)
    if axis == 0:
        return "axis is the batch"
    size = int(shape[axis] or 0)
    spread = any(other != 1 for position, other in enumerate(shape) if position not in (0, axis))
    most = limits["spread"] if spread else limits["alone"]
    return None if size <= most else f"its axis has {size} values, DLA takes {most} for this shape"


def followed_by_cast(layer: Layer, limits: Limits) -> str | None:
    if layer.consumers and all(operator == "Cast" for operator in layer.consumers):
        return None
    return "its result is not cast at once"


def precision(layer: Layer, limits: Limits) -> str | None:
    if layer.precision in limits["precisions"]:
        return None
    return f"DLA has it in {' and '.join(limits['precisions'])} only, the build is in {layer.precision}"


def keeps_batch(layer: Layer, limits: Limits) -> str | None:
    if layer.operator == "Transpose":
        order = layer.ints("perm")
        return None if order and order[0] == 0 else "it moves the batch axis"
    before, after = layer.shape(), layer.output_shape
    if not before or not after or before[0] is None or after[0] is None:
        return None
    return None if before[0] == after[0] else f"it changes the batch from {before[0]} to {after[0]}"


def cast_type(layer: Layer, limits: Limits) -> str | None:
    allowed = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8}
    target = layer.ints("to")[0]
    return None if target in allowed else f"it casts to {onnx.TensorProto.DataType.Name(target)}"


def _product(values: Any) -> str:
    return "x".join(map(str, values))


CHECKS: Mapping[str, Callable[[Layer, Limits], str | None]] = {
    check.__name__: check
    for check in (
        spatial_axes,
        between,
        between_or_line,
        padding_below_kernel,
        one_of,
        constant_weights,
        constant_slope,
        constant_indices,
        resize_mode,
        resize_coordinates,
        resize_scale,
        clip_range,
        channel_axis,
        softmax_size,
        followed_by_cast,
        precision,
        keeps_batch,
        cast_type,
    )
}
