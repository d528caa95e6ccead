"""What ONNX Runtime fuses into convolutions, and which convolutions work on blocks of channels.

    convolution -> (padding before it) -> (batch normalisation, constant factor) -> (residual addition) -> (activation)

Each in brackets vanishes into the convolution when nothing else reads the value between.
"""

from __future__ import annotations

from typing import Any

from within.core.device.kernels.eager import aten_kernel
from within.core.device.kernels.kernel import Setting, elements
from within.core.device.kernels.steps import ACTIVATIONS, Step
from within.core.device.kernels.walk import Record, Walk
from within.core.graph.operator import Shape

ALIGNMENT = 4  # channels that a blocked convolution reads must be a multiple of this
_FUSED_ALONE = ("relu", "sigmoid", "tanh", "leaky_relu", "hardsigmoid", "clip")
_FUSED_AFTER_ADDITION = ("relu", "sigmoid", "tanh")
_KEEPS_BLOCKS = ("relu", "sigmoid", "tanh", "hardsigmoid", "hardswish", "gelu", "silu")


def convolution(walk: Walk, step: Step) -> None:
    """A convolution, on blocks where its channels allow it."""
    op = step.operator
    if len(step.inputs) > 1 or op.get("transposed"):
        as_in_pytorch(walk, step)
        return
    value = step.inputs[0]
    weight, source, result = walk.shape(op["weight"].name), walk.shape(value), walk.shape(step.outputs[0])
    groups, spatial = source[1] // weight[1], len(weight) - 2
    settings = _settings(spread(op["stride"], spatial), _padding(walk, step), spread(op["dilation"], spatial), groups)
    if walk.block == 1 or spatial != 2 or not _fits_blocks(walk.block, source[1], result[1], groups):
        walk.need_plain(value)
        record = Record("conv", False, [source], [weight], [result], settings)
    elif groups == 1 and source[1] < walk.block:  # reads NCHW, writes blocks
        walk.need_plain(value)
        whole = walk.padded(result)
        record = Record("conv", True, [source], [(whole[1], *weight[1:])], [whole], settings)
    else:
        walk.need_blocked(value)
        before, after = walk.padded(source), walk.padded(result)
        if groups > 1 and groups == source[1]:
            settings["groups"] = before[1]
        columns = weight[1] if groups > 1 else before[1]
        record = Record("conv", True, [before], [(after[1], columns, *weight[2:])], [after], settings)
    walk.add(step, record, producer=True)


def padding(walk: Walk, step: Step) -> None:
    """Zeros around the image are the padding of the convolution that reads them."""
    op, value = step.operator, step.inputs[0]
    source, result = walk.shape(value), walk.shape(step.outputs[0])
    zeros = op.get("mode", "constant") == "constant" and not op.get("value")
    readers = list(op.node.users)
    into_convolution = len(readers) == 1 and str(readers[0].target).startswith(("aten.conv2d", "aten.convolution"))
    sizes = [int(size) for size in op["pad"]]
    if zeros and into_convolution and len(source) == 4 and source[:2] == result[:2] and min(sizes) >= 0:
        left, right, top, bottom = (*sizes, 0, 0)[:4]
        walk.fold(step, value)
        walk.padding[step.outputs[0]] = (top, left, bottom, right)
    else:
        as_in_pytorch(walk, step)


def batch_normalisation(walk: Walk, step: Step) -> None:
    """Part of the convolution before it; on other blocked values a depthwise 1x1 convolution."""
    value = step.inputs[0]
    record = walk.fusable(value)
    if record is not None and record.bare:
        walk.fold(step, value, record)
    elif walk.are_blocked([value]):
        _scale(walk, step)
    else:
        walk.add_plain(step, "batch_norm")


def activation(walk: Walk, step: Step) -> None:
    """Part of the convolution before it, or on its own."""
    kind, value = ACTIVATIONS[step.operator.kind], step.inputs[0]
    record = walk.fusable(value)
    if record is not None and "activation" not in record.settings and kind in _fused(record):
        record.settings["activation"] = kind
        walk.fold(step, value, record)
        return
    if kind in _KEEPS_BLOCKS and walk.are_blocked([value]):
        walk.add_elementwise(step, "activation", activation=kind)
    else:
        walk.add_plain(step, "activation", activation=kind)


def arithmetic(walk: Walk, step: Step) -> None:
    """Addition, product, difference, quotient; an addition becomes part of a convolution that makes one summand."""
    if len(step.inputs) == 1:
        _with_constant(walk, step)
        return
    one, other = step.inputs
    same = walk.shape(one) == walk.shape(other)
    blocked = same and step.kind in ("add", "mul") and walk.are_blocked(step.inputs)
    if step.kind == "add" and same and step.operator.get("alpha", 1) == 1:
        for value, further in ((one, other), (other, one)):
            record = walk.fusable(value)
            if record is not None and record.bare and record.blocked == blocked:
                if not blocked:
                    walk.need_plain(further)
                walk.move_to_end(record)
                record.settings["add"] = 1
                walk.fold(step, value, record)
                return
    if blocked:
        walk.add_elementwise(step, step.kind)
    else:
        walk.add_plain(step, step.kind)


def as_in_pytorch(walk: Walk, step: Step) -> None:
    """An operator that no rule knows: on NCHW, as PyTorch exports it."""
    for value in step.inputs:
        walk.need_plain(value)
    walk.records.append(aten_kernel(step, walk.shape, "plain"))
    walk.plain.update(step.outputs)


def spread(value: Any, count: int) -> tuple[int, ...]:
    """Returns a size argument as one number an axis."""
    sizes = tuple(int(size) for size in value) if isinstance(value, (list, tuple)) else (int(value),)
    return sizes * count if len(sizes) == 1 else sizes


def _fused(record: Record) -> tuple[str, ...]:
    if not record.blocked:
        return _FUSED_ALONE
    return _FUSED_AFTER_ADDITION if "add" in record.settings else (*_FUSED_ALONE, "hardswish")


def _with_constant(walk: Walk, step: Step) -> None:
    value = step.inputs[0]
    constants = walk.shapes(step.constants)
    across = bool(constants) and _one_per_channel(constants[0], walk.shape(value))
    number = not constants or elements(constants[0]) == 1
    folds = (step.kind == "mul" and (across or number)) or (step.kind == "add" and across)
    record = walk.fusable(value)
    if record is not None and record.bare and folds:
        walk.fold(step, value, record)
    elif step.kind == "mul" and across and walk.are_blocked([value]):
        _scale(walk, step)
    else:
        walk.add_plain(step, step.kind)


def _scale(walk: Walk, step: Step) -> None:
    """One factor a channel is a depthwise 1x1 convolution on blocked values."""
    whole = walk.padded(walk.shape(step.inputs[0]))
    settings = _settings((1, 1), (0, 0, 0, 0), (1, 1), whole[1])
    walk.add(step, Record("conv", True, [whole], [(whole[1], 1, 1, 1)], [whole], settings), producer=True)


def _settings(
    stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...], groups: int
) -> dict[str, Setting]:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def _fits_blocks(block: int, channels: int, out_channels: int, groups: int) -> bool:
    if groups == 1:
        return channels < block or channels % ALIGNMENT == 0
    if groups == channels == out_channels:
        return channels % ALIGNMENT == 0
    return (channels // groups) % block == 0 == (out_channels // groups) % block


def _padding(walk: Walk, step: Step) -> tuple[int, ...]:
    op, value = step.operator, step.inputs[0]
    spatial = len(walk.shape(value)) - 2
    if op["padding"] == "same":
        weight = walk.shape(op["weight"].name)[2:]
        spans = [by * (size - 1) for by, size in zip(spread(op["dilation"], spatial), weight, strict=True)]
        own = (*(span // 2 for span in spans), *(span - span // 2 for span in spans))
    else:
        own = spread(0 if op["padding"] == "valid" else op["padding"], spatial) * 2
    return tuple(size + more for size, more in zip(own, walk.padding.get(value, (0,) * len(own)), strict=True))


def _one_per_channel(constant: Shape, shape: Shape) -> bool:
    """Whether a constant broadcasts one number a channel over a tensor of this shape."""
    full = (1,) * (len(shape) - len(constant)) + tuple(constant)
    return len(full) == len(shape) == 4 and full[1] == shape[1] and elements(full) == shape[1]
