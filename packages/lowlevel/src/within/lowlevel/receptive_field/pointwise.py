"""Operators that work pixel by pixel, and normalisation, which does so unless its statistics are over the image."""

from __future__ import annotations

from within.core.graph.operator import Operator, integer, shape_of
from within.core.graph.rules.elementwise import ALIASES, BINARY, UNARY
from within.lowlevel.receptive_field.products import reduce
from within.lowlevel.receptive_field.reach import UNIFORM, Walk
from within.lowlevel.receptive_field.table import rule, whole_image


@rule(*UNARY, *ALIASES, *BINARY, "prelu", "_prelu_kernel", "expand_as")
def _pointwise(walk: Walk, op: Operator) -> None:
    if op.kind in ("max", "min") and len(op.tensors) == 1:
        reduce(walk, op)
        return
    nodes = op.tensors[:1] if "prelu" in op.kind else op.tensors
    walk.put_all(op, walk.broadcast(op, nodes, op.shape))


@rule("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like")
def _fill(walk: Walk, op: Operator) -> None:
    walk.put(op, (UNIFORM,) * len(op.shape))


@rule("expand")
def _expand(walk: Walk, op: Operator) -> None:
    source, shape = walk.of(op["self"]), shape_of(op["self"])
    new = len(op.shape) - len(shape)
    kept = [UNIFORM if size == 1 < op.shape[new + axis] else source[axis] for axis, size in enumerate(shape)]
    walk.put(op, [*[UNIFORM] * new, *kept])


@rule("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(walk: Walk, op: Operator) -> None:
    if op.get("training") or op.get("running_mean") is None:
        walk.fault(op, "statistics over the image")
    walk.put_all(op, walk.of(op["input"]))


@rule("instance_norm", "group_norm", "native_group_norm")
def _image_norm(walk: Walk, op: Operator) -> None:
    whole_image(walk, op, op["input"], range(len(shape_of(op["input"]))), "statistics over the image")
    walk.put_all(op, walk.of(op["input"]))


@rule("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_norm(walk: Walk, op: Operator) -> None:
    rank = len(shape_of(op["input"]))
    axes = range(rank - len(op["normalized_shape"]), rank)
    whole_image(walk, op, op["input"], axes, "statistics over the image")
    walk.put_all(op, walk.of(op["input"]))


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum", "logcumsumexp", "cumprod", "flip", "roll")
def _along_axis(walk: Walk, op: Operator) -> None:
    axes = [op.axis()] if "dim" in op.arguments else [integer(axis) % len(op.shape) for axis in op["dims"]]
    whole_image(walk, op, op["self"], axes, "it runs along the whole image")
    walk.put(op, walk.of(op["self"]))
