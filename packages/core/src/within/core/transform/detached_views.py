"""Copy a small view that keeps a large storage alive.

A slice of a tensor holds the whole tensor. Networks that pass most channels on and keep a few for later (IMDN's
distillation, gates, early exits) hold all of them until then. Where the rest of a storage is done with, the view is
copied and its later readers read the copy: 16 of 64 channels are held instead of 64. A site is rewritten where the
peak falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from within.core.transform.choose import Choice, choose
from within.core.transform.distribution import overwritten
from within.core.transform.editable import aten, duplicate, editable, finished, is_tensor, kind, value
from within.core.transform.lifetimes import Lifetimes, lifetimes, resident_workspace

VIEWS = ("getitem", "slice", "select", "narrow")


def detached_views(model: nn.Module, inputs: Sequence[Any], *, sites: Sequence[str] | None = None) -> fx.GraphModule:
    """Returns the model with views copied where that lets a larger storage go.

    Arguments:
        sites: names of the views; by default those by which the peak falls.

    Raises:
        WithinError: when the model cannot be traced.
    """
    module = editable(model, inputs)
    if sites is None:
        sites = list(detached_views_sites(module, inputs))
    return finished(_detached(module, dict.fromkeys(sites, "copy")))


def detached_views_sites(module: fx.GraphModule, inputs: Sequence[Any]) -> Choice:
    """Returns the views of an annotated module whose copies lower the peak."""
    found = lifetimes(module)
    sites = {node.name: ("copy",) for node in found.nodes if _last_other_use(found, node) is not None}
    return choose(lambda choice: _detached(duplicate(module), choice), sites, inputs, workspace=resident_workspace())


def _detached(module: fx.GraphModule, choice: Choice) -> fx.GraphModule:
    found = lifetimes(module)
    views = [node for node in found.nodes if node.name in choice]
    places = [(node, last) for node in views if (last := _last_other_use(found, node)) is not None]
    for node, last in places:
        with module.graph.inserting_before(found.nodes[last].next):
            copy = module.graph.call_function(aten.clone.default, (node,))
        for user in list(node.users):
            if user is not copy and copy < user:
                user.replace_input_with(node, copy)
    return module


def _last_other_use(found: Lifetimes, node: fx.Node) -> int | None:
    """Returns the last position at which a view is used or its storage through another alias, if the view outlives it.

    None for nodes that are no such views: the result would be no smaller, or the storage is overwritten.
    """
    if kind(node) not in VIEWS or not is_tensor(node) or len(found.storages[node]) != 1:
        return None
    identity = found.storages[node][0]
    size = value(node).numel() * value(node).element_size()
    if identity not in found.born or 2 * size > found.bytes[identity] or overwritten(found, node):
        return None
    of_view = {node}
    for other in found.nodes[found.index[node] + 1 :]:  # views of the view go with it
        if identity in found.storages[other] and of_view & set(other.all_input_nodes):
            of_view.add(other)
    own = {user for view in of_view for user in view.users} | of_view
    last = found.index[node]
    for position, other in enumerate(found.nodes):
        near = {item for item in (other, *other.all_input_nodes) if identity in found.storages[item]}
        if near and other not in own:
            last = max(last, position)
    later = [user for user in node.users if found.index[user] > last]
    return last if later and found.last[identity] > last else None
