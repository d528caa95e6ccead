"""Normalisation: scale and bias follow the channels; statistics over channels make masking differ from slimming."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from within.core.graph.coupling import Coupling
from within.core.graph.operator import Operator, integer, item_bytes, shape_of
from within.core.graph.rules.table import ShapeOf, rule

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite


def _follow(coupling: Coupling, op: Operator, source: str, axis: int, names: tuple[str, ...]) -> None:
    for name in names:
        parameter = op.get(name)
        if parameter is not None:
            channels = coupling.along(op[source], axis)
            coupling.unite(channels, coupling.along(parameter, 0), "normalisation of fixed channels")
    coupling.values[op.name] = coupling.of(op[source])


def batch_norm_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """Nothing, except in `thop_2019`: two an output element."""
    if convention != "thop_2019":
        return 0
    total = 2
    for size in shape(op.node):
        total *= size
    return total


@rule("batch_norm", macs=batch_norm_macs, transient="derived")
@rule("native_batch_norm", "_native_batch_norm_legit_no_training", macs=batch_norm_macs)
@rule("instance_norm", transient="derived")
def batch_norm(coupling: Coupling, op: Operator) -> None:
    """Batch and instance normalisation: everything follows axis 1."""
    _follow(coupling, op, "input", 1, ("weight", "bias", "running_mean", "running_var"))
    training = bool(op.get("training", op.get("use_input_stats", False)))
    reduced = [item for item in coupling.of(op["input"]) if set(item.axes) - {1}]
    if reduced and training:
        coupling.sensitive[op.name] = "statistics over channels"


def layer_norm_bytes(op: Operator, shape: ShapeOf) -> int:
    """Mean and reciprocal deviation of every row, in single precision at least."""
    rows = math.prod(shape(op["input"])[: -len(op["normalized_shape"])])
    return 2 * rows * max(4, item_bytes(op["input"]))


def group_norm_bytes(op: Operator, shape: ShapeOf) -> int:
    """Mean and reciprocal deviation of every group of every image."""
    return 2 * shape(op["input"])[0] * _group_count(op) * item_bytes(op["input"])


def _group_count(op: Operator) -> int:
    return integer(op["num_groups"] if "num_groups" in op.arguments else op["group"])


def _resize_layer_norm(rewrite: Rewrite, op: Operator) -> None:
    count = len(op["normalized_shape"])
    rewrite.set(op, "normalized_shape", list(rewrite.shape(op["input"])[-count:]))


@rule("layer_norm", resize=_resize_layer_norm, transient=layer_norm_bytes)
@rule("rms_norm", resize=_resize_layer_norm, transient="derived")
@rule("native_layer_norm", "_fused_rms_norm", resize=_resize_layer_norm)
def layer_norm(coupling: Coupling, op: Operator) -> None:
    """Layer normalisation over the last axes."""
    rank = len(shape_of(op["input"]))
    normalised = [integer(size) for size in op["normalized_shape"]]
    axes = list(range(rank - len(normalised), rank))
    for name in ("weight", "bias"):
        parameter = op.get(name)
        if parameter is None:
            continue
        for position, axis in enumerate(axes):
            channels = coupling.along(op["input"], axis)
            coupling.unite(channels, coupling.along(parameter, position), "normalisation of fixed channels")
    coupling.values[op.name] = coupling.of(op["input"])
    if any(set(item.axes) & set(axes) for item in coupling.of(op["input"])):
        coupling.sensitive[op.name] = "statistics over channels"


@rule("group_norm", transient=group_norm_bytes)
@rule("native_group_norm")
def group_norm(coupling: Coupling, op: Operator) -> None:
    """Group normalisation: channel i of every group together, so that groups stay equal."""
    groups = _group_count(op)
    channels = coupling.along(op["input"], 1)
    if channels is not None and groups > 1:
        by_group = channels.reshape(groups, -1)
        if by_group.shape[1] == 1:
            coupling.sets.freeze(channels, "group normalisation with one channel a group and a fixed group count")
        else:
            coupling.sets.union(by_group, by_group[:1])
    _follow(coupling, op, "input", 1, ("weight", "bias"))
    coupling.sensitive[op.name] = "statistics over channels"


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum", "logcumsumexp", "cumprod")
def softmax(coupling: Coupling, op: Operator) -> None:
    """Normalisation along an axis: channels pass, the result depends on which exist."""
    axis = op.axis() if op.tensors and shape_of(op["self"]) else 0
    joint = next((item for item in coupling.of(op["self"]) if axis in item.axes and len(item.axes) > 1), None)
    if joint is not None:  # shrink the other axis: whole rows of the normalisation
        coupling.along(op["self"], next(other for other in reversed(joint.axes) if other != axis))
    coupling.values[op.name] = coupling.of(op["self"])
    if any(axis in item.axes for item in coupling.of(op["self"])):
        coupling.sensitive[op.name] = "normalised over channels"
