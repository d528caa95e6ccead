"""Compactors: 1x1 convolutions on long skips, so that what is stored for a skip may be narrower than the main branch.

Shi et al., Memory-Oriented Structural Pruning for Efficient Image Restoration, AAAI 2023. A compactor y = P x + b
stands directly after the value that is kept; inserted with P = I, b = 0 the network computes the same bits. Its output
width is a channel group of its own. Where the skip is added instead of concatenated, a second 1x1 convolution E = I
expands it again at its use.

`rebase` turns the identity into the basis in which the reader loses least per channel: with S the covariance of x and
W the reader's weights on the skip,

    W S^(1/2) = U D V^T,   P = V^T S^(-1/2),   W' = U D

computes the same function, its channels ordered by what they contribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from within.core.cost.peak_memory import PeakMemory
from within.core.errors import WithinError
from within.core.graph import Graph, Operator, trace
from within.core.graph.operator import shape_of, tensor_of
from within.core.graph.rewrite import Rewrite
from within.core.pruning.statistics import Moments

PREFIX = "compactors"
FUNCTION = "within.lowlevel.compactor:insert"


@dataclass(frozen=True)
class LongSkip:
    """A value kept for much later.

    Attributes:
        position: index of the operator that makes it, among the operators that make tensors.
        value: its name.
        readers: positions of the late readers.
        channels: its channels.
        bytes: its size.
        added: whether the readers add it (or read it in another way than by concatenation along the channels).
    """

    position: int
    value: str
    readers: tuple[int, ...]
    channels: int
    bytes: int
    added: bool


def tensor_operators(graph: Graph) -> list[Operator]:
    """Returns the operators that make tensors, in order: the numbering is the same in a symbolic trace."""
    return [op for op in graph.operators if op.shapes]


def long_skips(graph: Graph, *, least_span: int = 6) -> tuple[LongSkip, ...]:
    """Returns values that stay alive over at least `least_span` operators and a change of resolution.

    Values alive at the peak come first.
    """
    operators = tensor_operators(graph)
    position_of = {op.name: position for position, op in enumerate(operators)}
    timeline = PeakMemory().timeline(graph)
    at_peak = {storage.value for storage, _ in timeline.alive(timeline.peak_operator)}
    skips = []
    for position, op in enumerate(operators):
        if len(op.shape) != 4 or tensor_of(op.node) is None or 1 not in graph.axes.get(op.name, {}):
            continue
        late = [position_of[user.name] for user in op.node.users if user.name in position_of]
        late = [reader for reader in late if reader - position >= least_span]
        if not late or not _resolution_changes(operators[position + 1 : max(late)], op.shape):
            continue
        added = any(operators[reader].kind not in ("cat", "concat", "conv2d") for reader in late)
        size = graph.storages[op.name][1]
        skips.append(LongSkip(position, op.name, tuple(late), op.shape[1], size, added))
    return tuple(sorted(skips, key=lambda skip: (skip.value not in at_peak, -skip.bytes)))


def _resolution_changes(between: Sequence[Operator], shape: tuple[int, ...]) -> bool:
    return any(len(op.shape) == 4 and op.shape[2:] != shape[2:] for op in between)


def insert(model: nn.Module, inputs: Sequence[Any], *, skips: Sequence[Mapping[str, Any]]) -> fx.GraphModule:
    """Inserts identity compactors; the step of a plan.

    Arguments:
        model: the network; not modified.
        inputs: example inputs.
        skips: for each compactor the `position` of the value's operator, those of its `readers`, its `channels`, and
            whether it is `added`.

    Raises:
        WithinError: when the model has other operators than the one the plan was made for.
    """
    graph = trace(model, inputs, dynamic=True)
    operators = tensor_operators(graph)
    rewrite = Rewrite(graph, graph.keep_masks({}))
    for number, skip in enumerate(skips):
        position, readers, channels = skip["position"], list(skip["readers"]), skip["channels"]
        if max([position, *readers]) >= len(operators) or shape_of(operators[position].node)[1] != channels:
            raise WithinError(
                f"Operator {position} is not the skip of {channels} channels that the plan was made for",
                where=type(model).__name__,
                todo="build the same dense model that was compressed",
            )
        path = f"{PREFIX}.{number}"
        rewrite.insert(
            operators[position].name,
            _build(f"{path}.reduce", channels, bias=True),
            [operators[reader].name for reader in readers],
            _build(f"{path}.expand", channels, bias=False) if skip["added"] else None,
        )
    return rewrite.module()


def _build(path: str, channels: int, *, bias: bool):  # type: ignore[no-untyped-def]
    def build(new: fx.Graph, root: nn.Module, read: fx.Node) -> fx.Node:
        owner: nn.Module = root
        *parents, leaf = path.split(".")
        for name in parents:
            if name not in owner._modules:
                owner.add_module(name, nn.Module())
            owner = owner.get_submodule(name)
        if leaf not in owner._modules:
            owner.add_module(leaf, identity(channels, bias=bias))
        return new.call_module(path, (read,))

    return build


def identity(channels: int, *, bias: bool) -> nn.Conv2d:
    """Returns a 1x1 convolution that passes every channel unchanged."""
    layer = nn.Conv2d(channels, channels, 1, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(channels)[:, :, None, None])
        if bias:
            layer.bias.zero_()  # type: ignore[union-attr]
    return layer


def step_arguments(skips: Sequence[LongSkip]) -> dict[str, Any]:
    """Returns the JSON arguments of `insert`."""
    return {
        "skips": [
            {"position": item.position, "readers": list(item.readers), "channels": item.channels, "added": item.added}
            for item in skips
        ]
    }


def rebase(graph: Graph, moments: Mapping[str, Moments]) -> int:
    """Gives every compactor that one convolution reads the basis ordered by contribution; in place.

    Arguments:
        graph: a graph of the network with identity compactors, whose model is changed.
        moments: input statistics of its layers.

    Returns:
        how many compactors were changed.
    """
    own = dict(graph.model.named_parameters())
    changed = 0
    for op in graph.operators:
        if op.kind != "conv2d" or not graph.parameters.get(op["weight"].name, "").startswith(f"{PREFIX}."):
            continue
        name = graph.parameters[op["weight"].name]
        reader = _single_reader(graph, op)
        if reader is None or name not in moments:
            continue
        consumer, start = reader
        weight = own[graph.parameters[consumer["weight"].name]]
        channels = own[name].shape[0]
        columns = weight.detach()[:, start : start + channels].double()
        half, inverse_half = _square_roots(moments[name].second_moment)
        flat = columns.permute(0, 2, 3, 1).reshape(-1, channels) @ half  # outputs x taps, channels
        _, _, rows = torch.linalg.svd(flat, full_matrices=True)
        basis = rows @ inverse_half  # P
        inverse = half @ rows.T  # P^-1
        with torch.no_grad():
            own[name].copy_(basis[:, :, None, None].to(own[name]))
            rebased = torch.einsum("ockl,cr->orkl", columns, inverse)
            weight[:, start : start + channels] = rebased.to(weight)
        changed += 1
    return changed


def _single_reader(graph: Graph, op: Operator) -> tuple[Operator, int] | None:
    """Returns the only convolution that reads a compactor, directly or through one concatenation, and its offset."""
    by_name = {item.name: item for item in graph.operators}
    readers = [by_name[user.name] for user in op.node.users if user.name in by_name]
    if len(readers) != 1:
        return None
    start, found = 0, readers[0]
    if found.kind in ("cat", "concat"):
        for part in found["tensors"]:
            if part is op.node:
                break
            start += shape_of(part)[1]
        after = [by_name[user.name] for user in found.node.users if user.name in by_name]
        if len(after) != 1:
            return None
        found = after[0]
    is_plain = found.kind == "conv2d" and found["groups"] == 1 and found["weight"].name in graph.parameters
    shared = [item for item in graph.operators if item.kind == "conv2d" and item.get("weight") is found.get("weight")]
    return (found, start) if is_plain and len(shared) == 1 else None


def _square_roots(moment: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(moment)
    values = values.clamp_min(float(values.max()) * 1e-8 + 1e-20)
    roots = values.sqrt()
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def widths_of_compactors(graph: Graph, widths: np.ndarray) -> dict[int, tuple[int, int]]:
    """Returns for each compactor number (kept, full) channels of its output."""
    found = {}
    for group, width in zip(graph.channel_groups(), widths, strict=True):
        for member in group.parameters:
            if member.axis == 0 and member.tensor.startswith(f"{PREFIX}.") and member.tensor.endswith("reduce.weight"):
                found[int(member.tensor.split(".")[1])] = (int(width), group.size)
    return found
