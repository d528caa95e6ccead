"""Never build a concatenation whose readers can work on its parts.

A convolution is linear in its input channels, so conv(cat(a, b), [W_a W_b]) = conv(a, W_a) + conv(b, W_b): the sum is
accumulated in place and the joined tensor is not made. What stands between (elementwise operators, evaluated batch
normalisation, pooling, per-channel means, grouped convolutions whose groups do not straddle parts) is applied to each
part (see `distribution`). The weight stays one parameter; the graph reads slices of it.

Two options at each concatenation. "late": all parts are convolved where the convolution was; those that die there come
first. "early": each part is convolved as soon as it exists, so that a partial sum is held over a long skip instead of
the part. Each costs a temporary of the size of the convolution's output: a site is rewritten where the peak falls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx, nn

from within.core.transform.choose import Choice, choose
from within.core.transform.distribution import (
    CONCATENATIONS,
    TRANSPOSED,
    Distributed,
    Placement,
    Terminal,
    distribute,
)
from within.core.transform.editable import annotate, arguments, aten, duplicate, editable, finished, kind, value
from within.core.transform.lifetimes import Lifetimes, lifetimes, resident_workspace

OPTIONS = ("late", "early")


def concat_elimination(
    model: nn.Module, inputs: Sequence[Any], *, sites: Mapping[str, str] | None = None
) -> fx.GraphModule:
    """Returns the model with concatenations replaced by sums of convolutions.

    Batch normalisation between a concatenation and a convolution is fixed to its running statistics where rewritten.

    Arguments:
        sites: option by name of concatenation; by default those by which the peak falls.

    Raises:
        WithinError: when the model cannot be traced.
    """
    module = editable(model, inputs)
    if sites is None:
        sites = concat_elimination_sites(module, inputs)
    return finished(_eliminated(module, inputs, dict(sites)))


def concat_elimination_sites(module: fx.GraphModule, inputs: Sequence[Any]) -> Choice:
    """Returns the concatenations of an annotated module whose elimination lowers the peak, with the option."""
    found = lifetimes(module)
    sites = {
        node.name: OPTIONS
        for node in module.graph.nodes
        if kind(node) in CONCATENATIONS and distribute(module, found, node) is not None
    }
    return choose(
        lambda choice: _eliminated(duplicate(module), inputs, choice), sites, inputs, workspace=resident_workspace()
    )


def _eliminated(module: fx.GraphModule, inputs: Sequence[Any], choice: Choice) -> fx.GraphModule:
    # From the last to the first, so that a concatenation inside another one is spliced into what became of that one.
    for name in reversed([node.name for node in module.graph.nodes if node.name in choice]):
        node = next(node for node in module.graph.nodes if node.name == name)
        found = lifetimes(module)
        ways = distribute(module, found, node)
        if ways is None:
            continue
        terminals, gone = ways
        place = Placement(module.graph, early=choice[name] == "early")
        for terminal in terminals:
            _end(place, found, terminal)
        for old in reversed(gone):
            if not old.users:
                module.graph.erase_node(old)
        annotate(module, inputs)
    return module


def _end(place: Placement, found: Lifetimes, terminal: Terminal) -> None:
    node, source, graph = terminal.node, terminal.source, place.graph
    order = list(range(len(source.sizes)))
    with graph.inserting_before(node):
        if terminal.way == "sum":
            if not place.early:
                order = _dying_first(found, source, node)
            result = _sum(place, source, node, order)
            node.replace_all_uses_with(result)
            graph.erase_node(node)
        elif terminal.way == "splice":
            parts = [source.part(place, index) for index in order]
            joined: list[fx.Node] = []
            for item in node.args[0]:  # type: ignore[union-attr]
                joined.extend(parts if item is source.node else [item])  # type: ignore[list-item]
            node.args = (joined, *node.args[1:])
        else:
            parts = [source.part(place, index) for index in order]
            node.replace_all_uses_with(place.call(aten.cat.default, (parts, source.axis)))


def _sum(place: Placement, source: Distributed, node: fx.Node, order: Sequence[int]) -> fx.Node:
    given = arguments(node)
    axis = 0 if kind(node) in TRANSPOSED else 1
    total: fx.Node | None = None
    for index in order:
        call = dict(given)
        call["input"] = source.part(place, index)
        call["weight"] = place.call(aten.slice.Tensor, (given["weight"], axis, *source.bounds(index)))
        if total is not None:
            call["bias"] = None
        result = place.call(node.target, tuple(call.values()))
        total = result if total is None else place.call(aten.add_.Tensor, (total, result))
    assert total is not None
    return total


def _dying_first(found: Lifetimes, source: Distributed, node: fx.Node) -> list[int]:
    """Returns the order of the parts that frees most before the second temporary exists: dying ones, largest first."""
    root = source.node
    while root in found.index and kind(root) not in CONCATENATIONS:
        root = root.all_input_nodes[0]
    parts = list(root.args[0])  # type: ignore[arg-type]

    def key(index: int) -> tuple[bool, int]:
        part = parts[index]
        dies = all(
            identity in found.born and found.last[identity] <= found.index[node] for identity in found.storages[part]
        )
        return not dies, -value(part).numel()

    return sorted(range(len(source.sizes)), key=key)
