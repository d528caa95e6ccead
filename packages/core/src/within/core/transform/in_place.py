"""Elementwise operators that overwrite an input which nothing needs afterwards.

An operator may write into its input's storage when that storage was made inside the graph, when no alias of it is used
later or returned, and when the result has its size, type and strides. With `differentiable`, also only where autograd
allows it: backward passes need some values as they were (a convolution its input, a sigmoid its result), and PyTorch
raises an error when one was overwritten. Without it the module is for evaluation alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from within.core.transform.editable import aten, editable, finished, is_tensor, kind, value
from within.core.transform.lifetimes import Lifetimes, lifetimes

UNARY = (
    "relu relu6 leaky_relu elu celu selu gelu silu mish sigmoid tanh hardtanh hardswish hardsigmoid exp sqrt rsqrt "
    "reciprocal abs neg square clamp clamp_min clamp_max"
).split()
BINARY = "add sub mul div".split()

# By PyTorch's derivatives.yaml: operators whose backward pass does not need their result, and those that do not need
# their input either.
RESULT_NOT_SAVED = frozenset(
    (
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear batch_norm layer_norm "
        "group_norm instance_norm add sub mul neg abs cat stack pixel_shuffle pixel_unshuffle upsample_nearest2d "
        "upsample_bilinear2d upsample_bicubic2d avg_pool2d adaptive_avg_pool2d max_pool2d pad constant_pad_nd "
        "new_empty new_zeros copy clone contiguous silu gelu hardswish clamp mean sum matmul bmm BatchNorm"
    ).split()
)
INPUT_NOT_SAVED = frozenset(
    (
        "add sub neg cat stack copy clone contiguous pad constant_pad_nd pixel_shuffle pixel_unshuffle "
        "upsample_nearest2d upsample_bilinear2d upsample_bicubic2d mean sum slice split split_with_sizes chunk getitem "
        "view reshape permute transpose unsqueeze squeeze flatten unflatten expand select alias sym_size"
    ).split()
)


def in_place(model: nn.Module, inputs: Sequence[Any], *, differentiable: bool = True) -> fx.GraphModule:
    """Returns the model with elementwise operators in place wherever that is legal.

    Arguments:
        differentiable: keep what a backward pass needs, so that the module can be trained.

    Raises:
        WithinError: when the model cannot be traced.
    """
    module = editable(model, inputs)
    storages = _Storages(module, lifetimes(module))
    for node in storages.nodes:
        target = _in_place_target(node)
        if target is None:
            continue
        for position in _operands(node):
            overwritten = node.args[position]
            assert isinstance(overwritten, fx.Node)
            if not storages.may_overwrite(node, overwritten):
                continue
            if differentiable and not storages.autograd_allows(node, overwritten):
                continue
            if position:
                node.args = (overwritten, node.args[0], *node.args[2:])
            node.target = target
            storages.merge(node, overwritten)
            break
    return finished(module)


def _in_place_target(node: fx.Node) -> Any:
    name = kind(node)
    overload = getattr(node.target, "_overloadname", "")
    if name not in (*UNARY, *BINARY) or overload not in ("default", "Tensor", "Scalar"):
        return None
    if not str(node.target).startswith(f"aten.{name}."):  # in place already
        return None
    packet = getattr(aten, f"{name}_", None)
    return getattr(packet, overload, None) if packet is not None else None


def _operands(node: fx.Node) -> list[int]:
    """Returns the positions of the operands whose storage the result may take."""
    commutes = kind(node) == "mul" or (kind(node) == "add" and node.kwargs.get("alpha", 1) == 1 and len(node.args) == 2)
    both = commutes and getattr(node.target, "_overloadname", "") == "Tensor"
    return [position for position in ((0, 1) if both else (0,)) if is_tensor(node.args[position])]


class _Storages:
    """Who uses which storage until when, kept up to date while results move into the storages of their inputs."""

    def __init__(self, module: fx.GraphModule, found: Lifetimes) -> None:
        self.nodes = found.nodes
        self._found = found
        self._last = dict(found.last)
        self._members: dict[int, list[fx.Node]] = {}
        self._of: dict[fx.Node, set[int]] = {}
        for node in module.graph.nodes:
            self._of[node] = set(found.storages[node])
            for identity in found.storages[node]:
                self._members.setdefault(identity, []).append(node)
        output = next(node for node in module.graph.nodes if node.op == "output")
        self._returned = {identity for node in output.all_input_nodes for identity in self._of[node]}
        self._types = {
            node: type(module.get_submodule(str(node.target))).__name__.rstrip("123d")
            for node in self.nodes
            if node.op == "call_module"
        }

    def may_overwrite(self, node: fx.Node, operand: fx.Node) -> bool:
        """Whether the operand's whole storage is free for the result of `node`."""
        result, source = value(node), value(operand)
        if (result.shape, result.dtype, result.stride()) != (source.shape, source.dtype, source.stride()):
            return False
        if len(self._of[operand]) != 1 or len(self._of[node]) != 1:
            return False
        identity = next(iter(self._of[operand]))
        if identity not in self._found.born or identity in self._returned:
            return False
        if self._last[identity] != self._found.index[node]:
            return False
        if self._found.bytes[identity] != result.numel() * result.element_size():
            return False
        others = [other for other in node.all_input_nodes if other is not operand]
        return not any(identity in self._of[other] for other in others)

    def autograd_allows(self, node: fx.Node, operand: fx.Node) -> bool:
        """Whether no backward pass needs the value that is about to be overwritten."""
        identity = next(iter(self._of[operand]))
        index = self._found.index
        for member in self._members[identity]:
            made = member in index and not any(identity in self._of[source] for source in member.all_input_nodes)
            if (made or _writes(member)) and self._name(member) not in RESULT_NOT_SAVED:
                return False
            for user in member.users:
                if user is not node and not _writes(user) and self._name(user) not in INPUT_NOT_SAVED:
                    return False
        twice = sum(argument is operand for argument in node.args) > 1
        return not (twice and kind(node) in ("mul", "div"))

    def merge(self, node: fx.Node, operand: fx.Node) -> None:
        """Records that the result of `node` now lies in the storage of `operand`."""
        old, new = next(iter(self._of[node])), next(iter(self._of[operand]))
        for member in self._members.pop(old):
            self._of[member] = (self._of[member] - {old}) | {new}
            self._members[new].append(member)
        self._last[new] = self._last[old]
        if old in self._returned:
            self._returned.add(new)

    def _name(self, node: fx.Node) -> str:
        return self._types.get(node) or kind(node)


def _writes(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable)
