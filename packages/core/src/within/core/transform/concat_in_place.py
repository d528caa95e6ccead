"""Write the parts of a concatenation into its buffer as soon as they exist, instead of joining them at the end.

A concatenation holds all its parts and the result at once. Here the result is allocated when the first chosen part is
made; each part is copied into its slice at once, later readers read the slice, and the part's own storage dies. A part
that is itself such a buffer is made inside the slice and never copied. A shorter concatenation of the same parts
(dense blocks) then is a slice too. The buffer lives longer for it: a site is rewritten where the peak falls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import fx, nn

from within.core.transform.choose import Choice, choose
from within.core.transform.distribution import CONCATENATIONS, overwritten
from within.core.transform.editable import (
    annotate,
    arguments,
    aten,
    channel_slice,
    duplicate,
    editable,
    empty_like_with,
    finished,
    is_channels_last,
    kind,
    place_after,
    value,
)
from within.core.transform.lifetimes import Lifetimes, lifetimes, resident_workspace

OPTIONS = 4  # at each concatenation


def concat_in_place(
    model: nn.Module, inputs: Sequence[Any], *, sites: Mapping[str, str] | None = None
) -> fx.GraphModule:
    """Returns the model with concatenations of channels written in place.

    Arguments:
        sites: by name of concatenation, how many of its parts exist when the buffer is made, the one that is being
            made not counted, as text; by default those by which the peak falls.

    Raises:
        WithinError: when the model cannot be traced.
    """
    module = editable(model, inputs)
    if sites is None:
        sites = concat_in_place_sites(module, inputs)
    return finished(_written(module, inputs, dict(sites)))


def concat_in_place_sites(module: fx.GraphModule, inputs: Sequence[Any]) -> Choice:
    """Returns the concatenations of an annotated module that lower the peak when written in place."""
    found = lifetimes(module)
    sites = {node.name: _options(node) for node in module.graph.nodes if _is_rewritable(found, node)}
    return choose(
        lambda choice: _written(duplicate(module), inputs, choice), sites, inputs, workspace=resident_workspace()
    )


def _is_rewritable(found: Lifetimes, node: fx.Node) -> bool:
    if kind(node) not in CONCATENATIONS or value(node).dim() < 3 or int(arguments(node)["dim"]) not in (1,):
        return False
    parts = _parts(node)
    same_type = all(value(part).dtype == value(node).dtype for part in parts)
    return len(parts) > 1 and same_type and not any(overwritten(found, item) for item in (node, *parts))


def _options(node: fx.Node) -> tuple[str, ...]:
    made = sorted(set(_parts(node)))
    last = len(made) - (1 if _buffer_of(made[-1]) is not None else 2)
    counts = sorted({round(step * last / (OPTIONS - 1)) for step in range(OPTIONS)})
    return tuple(str(count) for count in counts if count >= 0)


def _written(module: fx.GraphModule, inputs: Sequence[Any], choice: Choice) -> fx.GraphModule:
    names = [node.name for node in module.graph.nodes if node.name in choice]
    for name in reversed(names):  # the longest concatenation of a dense block comes last and takes the others in
        node = next((node for node in module.graph.nodes if node.name == name), None)
        if node is not None and _is_rewritable(lifetimes(module), node):
            _write(module.graph, node, int(choice[name]))
            _join_neighbours(module.graph)
            annotate(module, inputs)
    return module


def _write(graph: fx.Graph, node: fx.Node, existing: int) -> None:
    parts = _parts(node)
    made = sorted(set(parts))
    first = made[min(existing, len(made) - 1)]
    buffer = _allocate(graph, node, first)
    start = 0
    for position, part in enumerate(parts):
        end = start + int(value(part).shape[1])
        repeated = part in parts[:position]
        own = None if repeated or part < first else _buffer_of(part)
        if own is not None:
            with graph.inserting_before(own):
                piece = channel_slice(graph, buffer, 1, start, end)
            part.replace_all_uses_with(piece, delete_user_cb=lambda user: user is not node)
        else:
            with graph.inserting_before(place_after([part, buffer])):
                piece = channel_slice(graph, buffer, 1, start, end)
                copy = graph.call_function(aten.copy_.default, (piece, part))
            if part.op != "placeholder" and not repeated:
                for user in list(part.users):
                    if user not in (copy, node) and user.op != "output" and copy < user:
                        user.replace_input_with(part, piece)
        start = end
    node.replace_all_uses_with(buffer)
    graph.erase_node(node)


def _allocate(graph: fx.Graph, node: fx.Node, first: fx.Node) -> fx.Node:
    """Emits the buffer where the first part that is written at once comes into being."""
    channels, last = int(value(node).shape[1]), is_channels_last(value(node))
    own = _buffer_of(first)
    if own is None:
        with graph.inserting_before(place_after([first])):
            return empty_like_with(graph, first, channels, last=last)
    sizes = list(own.args[1])  # type: ignore[arg-type]
    image = sizes[1:3] if own is not first else sizes[2:]
    like = own.args[0]
    assert isinstance(like, fx.Node)
    with graph.inserting_before(own):
        return empty_like_with(graph, like, channels, image, last=last)


def _buffer_of(part: fx.Node) -> fx.Node | None:
    """Returns the allocation behind a part that is an empty tensor filled in pieces, in either memory format."""
    if kind(part) == "new_empty":
        return part
    source = part.args[0] if kind(part) == "permute" else None
    if isinstance(source, fx.Node) and kind(source) == "new_empty" and len(source.users) == 1:
        return source if list(part.args[1]) == [0, 3, 1, 2] else None  # type: ignore[arg-type]
    return None


def _join_neighbours(graph: fx.Graph) -> None:
    """Replaces concatenations of neighbouring slices of one tensor by a slice."""
    for node in list(graph.nodes):
        if kind(node) not in CONCATENATIONS or int(arguments(node)["dim"]) != 1:
            continue
        parts = _parts(node)
        if any(kind(part) != "slice" or len(part.args) != 4 or part.args[1] != 1 for part in parts):
            continue
        bases = {part.args[0] for part in parts}
        bounds = [(part.args[2], part.args[3]) for part in parts]
        if len(bases) == 1 and all(before[1] == after[0] for before, after in pairwise(bounds)):
            base = next(iter(bases))
            assert isinstance(base, fx.Node)
            with graph.inserting_before(node):
                joined = channel_slice(graph, base, 1, int(bounds[0][0]), int(bounds[-1][1]))  # type: ignore[arg-type]
            node.replace_all_uses_with(joined)
            graph.erase_node(node)


def _parts(node: fx.Node) -> list[fx.Node]:
    return list(node.args[0])  # type: ignore[arg-type]
