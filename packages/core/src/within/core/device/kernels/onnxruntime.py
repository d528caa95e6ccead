"""Kernels of ONNX Runtime on the CPU: what its graph optimiser makes of a model at given widths.

Where the processor has kernels for it, convolutions and poolings work on channels in blocks of 8 or 16, padded to whole
blocks; what knows no blocks gets its input reordered. That depends on the widths: a convolution that reads fewer
channels than a block takes plain NCHW, one whose input channels are no multiple of 4 is not blocked at all, a pooling
or a concatenation stays blocked only when its parts are whole blocks. Fusion is described in `fusion`. The rules were
found by experiment (onnxruntime 1.31), and a test compares them with the graphs that ONNX Runtime itself writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from within.core.device.kernels.eager import view_kernel
from within.core.device.kernels.fusion import (
    activation,
    arithmetic,
    as_in_pytorch,
    batch_normalisation,
    convolution,
    padding,
    spread,
)
from within.core.device.kernels.kernel import Kernel, Setting
from within.core.device.kernels.steps import Step, Steps
from within.core.device.kernels.walk import Record, Walk
from within.core.graph.operator import Shape, integer


def onnxruntime_kernels(steps: Steps, shape: Callable[[str], Shape], block: int) -> tuple[Kernel, ...]:
    """Returns the kernels of a model, the call of the session itself first.

    Arguments:
        steps: the steps of the graph.
        shape: shape of a value under the decision.
        block: channels in a block, 1 where the processor has no blocked kernels.
    """
    walk = Walk(steps.uses, shape, block, steps.inputs)
    for step in steps.steps:
        _RULES.get(step.kind, as_in_pytorch)(walk, step)
    for name in steps.outputs:
        walk.need_plain(name)
    inputs, outputs = tuple(map(shape, steps.inputs)), tuple(map(shape, steps.outputs))
    session = Kernel("session", "plain", inputs, (), outputs)
    return (session, *(record if isinstance(record, Kernel) else record.kernel() for record in walk.records))


def _concatenation(walk: Walk, step: Step) -> None:
    axis = integer(step.operator["dim"]) % len(walk.shape(step.outputs[0]))
    whole = all(len(shape) == 4 and shape[1] % walk.block == 0 for shape in walk.shapes(step.inputs))
    if axis == 1 and whole and walk.are_blocked(step.inputs) and not step.constants:
        walk.add_elementwise(step, "concat", axis=1)
    else:
        walk.add_plain(step, "concat", axis=axis)


def _max_pooling(walk: Walk, step: Step) -> None:
    op = step.operator
    _pooling(walk, step, op["kernel_size"], op["stride"], op["padding"], op["dilation"], ceil=bool(op["ceil_mode"]))


def _average_pooling(walk: Walk, step: Step) -> None:
    op = step.operator
    _pooling(walk, step, op["kernel_size"], op["stride"], op["padding"], 1, ceil=bool(op["ceil_mode"]))


def _adaptive_average_pooling(walk: Walk, step: Step) -> None:
    before, after = walk.shape(step.inputs[0])[2:], walk.shape(step.outputs[0])[2:]
    if all(size == 1 for size in after):
        walk.add_plain(step, "mean", axes=(2, 3), keep=1)
    elif any(size % out for size, out in zip(before, after, strict=True)):
        as_in_pytorch(walk, step)
    else:
        kernel = [size // out for size, out in zip(before, after, strict=True)]
        _pooling(walk, replace(step, kind="average_pool"), kernel, kernel, 0, 1, ceil=False)


def _pooling(walk: Walk, step: Step, kernel: Any, stride: Any, padding: Any, dilation: Any, *, ceil: bool) -> None:
    settings: dict[str, Setting] = {
        "kernel": spread(kernel, 2),
        "stride": spread(stride or kernel, 2),
        "padding": spread(padding, 2) * 2,
        "dilation": spread(dilation, 2),
        "ceil": int(ceil),
    }
    source, result = walk.shape(step.inputs[0]), walk.shape(step.outputs[0])
    if walk.block > 1 and len(source) == 4 and source[1] % walk.block == 0:
        walk.need_blocked(step.inputs[0])
        walk.add(step, Record(step.kind, True, [source], [], [result], settings))
    else:
        walk.add_plain(step, step.kind, **settings)


def _mean(walk: Walk, step: Step) -> None:
    op, rank = step.operator, len(walk.shape(step.inputs[0]))
    axes = tuple(sorted(integer(axis) % rank for axis in op.get("dim") or range(rank)))
    walk.add_plain(step, "mean", axes=axes, keep=int(bool(op.get("keepdim", False))))


def _resizing(walk: Walk, step: Step) -> None:
    op = step.operator
    source, result = walk.shape(step.inputs[0]), walk.shape(step.outputs[0])
    mode = "nearest"
    if "bilinear" in op.kind:
        mode = "linear_corners" if op.get("align_corners") else "linear"
    whole_factors = not any(after % before for before, after in zip(source[2:], result[2:], strict=True))
    if walk.are_blocked(step.inputs) and whole_factors:
        walk.add(step, Record("resize", True, [walk.padded(source)], [], [walk.padded(result)], {"mode": mode}))
    else:
        walk.add_plain(step, "resize", mode=mode)


def _linear(walk: Walk, step: Step) -> None:
    if len(step.inputs) > 1:
        as_in_pytorch(walk, step)
        return
    walk.need_plain(step.inputs[0])
    weight = walk.shape(step.operator["weight"].name)
    source, result = walk.shape(step.inputs[0]), walk.shape(step.outputs[0])
    walk.add(step, Record("linear", False, [source], [weight], [result]))


def _transposed_convolution(walk: Walk, step: Step) -> None:
    if len(step.inputs) > 1:
        as_in_pytorch(walk, step)
        return
    op = step.operator
    weight, source, result = walk.shape(op["weight"].name), walk.shape(step.inputs[0]), walk.shape(step.outputs[0])
    spatial = len(weight) - 2
    settings: dict[str, Setting] = {
        "stride": spread(op["stride"], spatial),
        "padding": spread(op["padding"], spatial) * 2,
        "output_padding": spread(op["output_padding"], spatial),
        "dilation": spread(op["dilation"], spatial),
        "groups": result[1] // weight[1],
    }
    walk.need_plain(step.inputs[0])
    walk.add(step, Record("conv_transpose", False, [source], [weight], [result], settings))


def _pixel_shuffle(walk: Walk, step: Step) -> None:
    walk.add_plain(step, "pixel_shuffle", factor=int(step.operator["upscale_factor"]))


def _reshape(walk: Walk, step: Step) -> None:
    walk.need_plain(step.inputs[0])
    walk.records.append(view_kernel())
    walk.plain.update(step.outputs)


def _transpose(walk: Walk, step: Step) -> None:
    op, rank = step.operator, len(walk.shape(step.inputs[0]))
    order = list(range(rank))
    if op.kind == "permute":
        order = [integer(axis) % rank for axis in op["dims"]]
    else:
        one, other = integer(op["dim0"]) % rank, integer(op["dim1"]) % rank
        order[one], order[other] = order[other], order[one]
    walk.add_plain(step, "transpose", order=tuple(order))


def _split(walk: Walk, step: Step) -> None:
    walk.add_plain(step, "split", axis=step.operator.axis())


def _slice(walk: Walk, step: Step) -> None:
    if step.operator.get("step", 1) != 1:
        as_in_pytorch(walk, step)
    else:
        walk.add_plain(step, "slice", axis=step.operator.axis())


def _expand(walk: Walk, step: Step) -> None:
    walk.need_plain(step.inputs[0])
    walk.add(step, Record("expand", False, walk.shapes(step.inputs[:1]), [], walk.shapes(step.outputs)))


_RULES: dict[str, Callable[[Walk, Step], None]] = {
    "conv": convolution,
    "pad": padding,
    "batch_norm": batch_normalisation,
    "activation": activation,
    "add": arithmetic,
    "mul": arithmetic,
    "sub": arithmetic,
    "div": arithmetic,
    "concat": _concatenation,
    "max_pool": _max_pooling,
    "average_pool": _average_pooling,
    "adaptive_average_pool": _adaptive_average_pooling,
    "mean": _mean,
    "resize": _resizing,
    "linear": _linear,
    "conv_transpose": _transposed_convolution,
    "pixel_shuffle": _pixel_shuffle,
    "reshape": _reshape,
    "transpose": _transpose,
    "split": _split,
    "slice": _slice,
    "expand": _expand,
}
