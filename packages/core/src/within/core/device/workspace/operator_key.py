"""What the workspace of an operator depends on, read off a node of a traced graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx

from within.core.graph.operator import Shape, concrete, short_kind

Layout = Literal["nchw", "channels_last", "channels_last_view"]

KINDS: dict[str, str] = {
    "conv1d": "convolution",
    "conv2d": "convolution",
    "convolution": "convolution",
    "conv_transpose1d": "transposed_convolution",
    "conv_transpose2d": "transposed_convolution",
    "linear": "linear",
    "addmm": "linear",
    "max_pool2d": "max_pool",
    "max_pool2d_with_indices": "max_pool",
    "avg_pool2d": "average_pool",
    "upsample_nearest2d": "nearest",
    "upsample_bilinear2d": "bilinear",
    "upsample_bicubic2d": "bicubic",
    "batch_norm": "batch_norm",
    "instance_norm": "instance_norm",
    "group_norm": "group_norm",
    "layer_norm": "layer_norm",
    "pixel_shuffle": "pixel_shuffle",
    "pixel_unshuffle": "pixel_unshuffle",
}


@dataclass(frozen=True, order=True)
class OperatorKey:
    """One operator at one size, fp32.

    Attributes:
        kind: a value of `KINDS`.
        layout: memory format of the input; `channels_last_view` is a slice of channels of a channels_last tensor.
        batch, in_channels, out_channels: sizes. For `linear`, batch counts the rows.
        height, width: of the input; 1 where the operator has none.
        out_height, out_width: of the output.
        kernel, stride: 1 where the operator has none.
        groups: of a convolution.
    """

    kind: str
    layout: Layout
    batch: int
    in_channels: int
    out_channels: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> OperatorKey:
        """Builds a key from JSON values, of which it takes those that are its fields."""
        fields: dict[str, Any] = {name: values[name] for name in cls.__dataclass_fields__}
        fields.update({name: tuple(value) for name, value in fields.items() if isinstance(value, list)})
        return cls(**fields)

    @property
    def input_bytes(self) -> int:
        """Bytes of the first input."""
        return 4 * self.batch * self.in_channels * self.height * self.width

    @property
    def output_bytes(self) -> int:
        """Bytes of the output."""
        return 4 * self.batch * self.out_channels * self.out_height * self.out_width

    @property
    def family(self) -> str:
        """The operators that a backend treats alike: kind, layout, and for convolutions kernel, stride and groups."""
        if "convolution" not in self.kind:
            return f"{self.kind} {self.layout}"
        grouping = "dense" if self.groups == 1 else "depthwise" if self.groups == self.in_channels else "grouped"
        kernel = "pointwise" if self.kernel == (1, 1) else "spatial"
        stride = "" if self.stride == (1, 1) else " strided"
        return f"{self.kind} {self.layout} {grouping} {kernel}{stride}"

    def same_but_size(self, other: OperatorKey) -> bool:
        """Whether the two differ in batch and image size alone."""
        return self._without_size() == other._without_size()

    def _without_size(self) -> tuple[Any, ...]:
        return (
            self.kind,
            self.layout,
            self.in_channels,
            self.out_channels,
            self.kernel,
            self.stride,
            self.groups,
            # interpolation has no stride: its scale takes that part
            None if "convolution" in self.kind else (self.out_height > self.height, self.out_height < self.height),
        )


def operator_key(node: fx.Node, shape: Callable[[str], Shape] | None = None) -> OperatorKey | None:
    """Returns the key of a node of an exported graph (`node.meta["val"]` holds its fake tensor).

    Arguments:
        node: a node of the fx graph of an exported program.
        shape: shape of a value by its name, where it is another than in the trace (a network with fewer channels).

    Returns None for operators without workspace in the table (elementwise, views, copies) and for those whose first
    input is not a tensor of the expected dimensions.
    """
    kind = KINDS.get(short_kind(node.target))
    if kind is None or not node.args:
        return None
    names = _argument_names(node)
    source_node = names["mat1"] if "mat1" in names else node.args[0]
    source, result = _value(source_node), _value(node)
    if source is None or result is None:
        return None
    before, after = _shape(source_node, source, shape), _shape(node, result, shape)
    if kind in ("linear", "layer_norm"):
        return OperatorKey(kind, "nchw", math.prod(before[:-1]), before[-1], after[-1], 1, 1, 1, 1)
    if len(before) not in (3, 4):
        return None
    kernel, stride, groups = (1, 1), (1, 1), 1
    if "convolution" in kind:
        weight = _value(names["weight"])
        if weight is None:
            return None
        kernel, stride = _pair(weight.shape[2:]), _pair(names.get("stride", 1))
        groups = int(names.get("groups", 1))
        if groups == source.shape[1] and groups > 1:
            groups = before[1]  # a depthwise convolution stays one when channels go
        if names.get("transposed"):
            kind = "transposed_convolution"
    elif kind in ("max_pool", "average_pool"):
        kernel = _pair(names["kernel_size"])
        stride = _pair(names.get("stride") or names["kernel_size"])
    sizes = (before[0], before[1], after[1], *_image(before), *_image(after))
    return OperatorKey(kind, layout_of(source, result), *sizes, kernel, stride, groups)


def layout_of(source: Tensor, result: Tensor) -> Layout:
    """Returns the memory format in which an operator works, from the strides of its input and output.

    A tensor with one channel or one pixel has strides of both formats; then the other tensor decides.
    """
    if source.ndim != 4 or result.ndim != 4:
        return "nchw"
    if _is_channels_last(source) or (_is_ambiguous(source) and _is_channels_last(result)):
        return "channels_last"
    if source.shape[1] > 1 and concrete(source.stride(1)) == 1 < concrete(source.stride(3)):
        return "channels_last_view"
    return "nchw"


def _is_channels_last(value: Tensor) -> bool:
    return not _is_ambiguous(value) and value.is_contiguous(memory_format=torch.channels_last)


def _is_ambiguous(value: Tensor) -> bool:
    return value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)


def _argument_names(node: fx.Node) -> dict[str, Any]:
    assert isinstance(node.target, torch._ops.OpOverload)  # KINDS holds ATen operators only
    schema = node.target._schema.arguments
    return {**{argument.name: value for argument, value in zip(schema, node.args)}, **node.kwargs}


def _value(argument: Any) -> Tensor | None:
    value = argument.meta.get("val") if isinstance(argument, fx.Node) else argument
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def _shape(argument: Any, value: Tensor, shape: Callable[[str], Shape] | None) -> Shape:
    if shape is not None and isinstance(argument, fx.Node) and isinstance(argument.meta.get("val"), Tensor):
        return shape(argument.name)
    return tuple(concrete(size) for size in value.shape)


def _image(shape: Shape) -> tuple[int, int]:
    return (1, shape[2]) if len(shape) == 3 else (shape[2], shape[3])


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    sizes = tuple(int(size) for size in value)
    return (sizes[0], sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])
