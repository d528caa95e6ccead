"""Operators that read a window around each position: convolution, pooling, padding, and changes of resolution."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from torch import fx

from within.core.graph.operator import Operator, integer, shape_of
from within.lowlevel.receptive_field.reach import Along, Layout, Tag, Walk
from within.lowlevel.receptive_field.table import moved, rule


@rule("conv1d", "conv2d", "conv3d")
def _convolution(walk: Walk, op: Operator) -> None:
    kernel = shape_of(op["weight"])[2:]
    dilation, stride = _each(op["dilation"], kernel), _each(op["stride"], kernel)
    extent = [spread * (size - 1) for spread, size in zip(dilation, kernel, strict=True)]
    named = op["padding"]
    before = [size // 2 for size in extent] if named == "same" else [0] * len(kernel)
    padding = before if isinstance(named, str) else _each(named, kernel)
    _windows(walk, op, op["input"], padding, extent, stride)


@rule("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices")
def _pooling(walk: Walk, op: Operator) -> None:
    axes = [None] * int(next(character for character in op.kind if character.isdigit()))
    kernel = _each(op["kernel_size"], axes)
    dilation = _each(op.get("dilation", 1), axes)
    extent = [spread * (size - 1) for spread, size in zip(dilation, kernel, strict=True)]
    _windows(walk, op, op["self"], _each(op["padding"], axes), extent, _each(op["stride"] or kernel, axes))


def _windows(
    walk: Walk, op: Operator, node: fx.Node, padding: Sequence[int], extent: Sequence[int], stride: Sequence[int]
) -> None:
    layout, first = list(walk.of(node)), len(shape_of(node)) - len(extent)
    _no_image_axis(walk, op, layout[:first])
    for position, (pad, span, step) in enumerate(zip(padding, extent, stride, strict=True)):
        layout[first + position] = moved(
            walk, op, layout[first + position], lambda reach, p=pad, e=span, s=step: reach.window(-p, e - p, s)
        )
    walk.put_all(op, [*_without_image(layout[:first]), *layout[first:]])


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed(walk: Walk, op: Operator) -> None:
    kernel = shape_of(op["weight"])[2:]
    layout, first = list(walk.of(op["input"])), len(shape_of(op["input"])) - len(kernel)
    _no_image_axis(walk, op, layout[:first])
    steps = zip(*(_each(op[name], kernel) for name in ("stride", "padding", "dilation")), kernel, strict=True)
    for position, (stride, padding, dilation, size) in enumerate(steps):
        # Output i receives input j where i = j * stride - padding + dilation * t, 0 <= t < size.
        low, high = Fraction(padding - dilation * (size - 1), stride), Fraction(padding, stride)
        layout[first + position] = moved(
            walk,
            op,
            layout[first + position],
            lambda reach, a=low, b=high, s=stride: reach.spread(a, b, Fraction(1, s)),
        )
    walk.put(op, [*_without_image(layout[:first]), *layout[first:]])


@rule("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def _pad(walk: Walk, op: Operator) -> None:
    layout, amounts = list(walk.of(op["self"])), op["pad"] if "pad" in op.arguments else op["padding"]
    for position in range(len(amounts) // 2):
        axis, before = len(layout) - 1 - position, integer(amounts[2 * position])
        if isinstance(layout[axis], Along) and op.get("mode") == "circular":
            walk.fault(op, "it wraps around the image")
        layout[axis] = moved(walk, op, layout[axis], lambda reach, p=before: reach.window(-p, -p))
    walk.put(op, layout)


@rule("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle")
def _shuffle(walk: Walk, op: Operator) -> None:
    layout = list(walk.of(op.tensors[0]))
    for axis in range(len(layout) - 2, len(layout)):
        if op.kind == "pixel_shuffle":
            layout[axis] = moved(walk, op, layout[axis], lambda reach: reach.enlarged(integer(op["upscale_factor"])))
        elif op.kind == "pixel_unshuffle":
            factor = integer(op["downscale_factor"])
            layout[axis] = moved(walk, op, layout[axis], lambda reach, f=factor: reach.window(0, f - 1, f))
    walk.put(op, layout)


@rule(
    "upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
def _interpolation(walk: Walk, op: Operator) -> None:
    source, layout = shape_of(op.tensors[0]), list(walk.of(op.tensors[0]))
    if op.get("align_corners"):
        walk.fault(op, "with aligned corners the grid depends on the size of the image")
    for axis in range(2, len(source)):
        factor = Fraction(op.shape[axis], source[axis])
        if 1 not in (factor.numerator, factor.denominator):
            walk.fault(op, f"a factor of {factor} depends on the size of the image")
        support = Fraction(2 if "bicubic" in op.kind else 1) * (max(1, 1 / factor) if op.kind.endswith("_aa") else 1)
        if "nearest" in op.kind:  # floor(i / f), or floor((i + 1/2) / f)
            low, high = (min(Fraction(0), 1 / factor - 1), 1 / factor / 2 if "exact" in op.kind else Fraction(0))
        else:  # around (i + 1/2) / f - 1/2
            center = 1 / factor / 2 - Fraction(1, 2)
            low, high = center - support, center + support
        layout[axis] = moved(walk, op, layout[axis], lambda reach, a=low, b=high, f=factor: reach.spread(a, b, 1 / f))
    walk.put(op, layout)


@rule(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "_adaptive_avg_pool2d"
)
def _adaptive_pooling(walk: Walk, op: Operator) -> None:
    layout, source = list(walk.of(op["self"])), shape_of(op["self"])
    for axis, size in enumerate(op.shape):
        if isinstance(layout[axis], Along) and size != source[axis]:
            walk.fault(op, "global pooling" if size == 1 else "pooling to a fixed size")
            layout[axis] = None
    walk.put_all(op, layout)


def _no_image_axis(walk: Walk, op: Operator, layout: Sequence[Tag]) -> None:
    if any(isinstance(tag, Along) for tag in layout):
        walk.fault(op, "it treats pixels as channels")


def _without_image(layout: Sequence[Tag]) -> Layout:
    return tuple(None if isinstance(tag, Along) else tag for tag in layout)


def _each(value: object, axes: Sequence[object]) -> list[int]:
    """Returns one number for each axis."""
    given = [integer(item) for item in value] if isinstance(value, (list, tuple)) else [integer(value)]
    return given * len(axes) if len(given) == 1 else given
