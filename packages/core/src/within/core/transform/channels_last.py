"""Compute in the channels_last memory format (NHWC) and hand the result back in the caller's.

Convolution libraries work on blocks of channels. From NCHW they copy each map into such blocks and back, inside the
operator; from channels_last they need no copy: a third of DnCNN's resident memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from within.core.transform.distribution import overwritten
from within.core.transform.editable import aten, editable, finished, is_tensor, kind, set_parameter, value
from within.core.transform.lifetimes import lifetimes

RESHAPES = "view _unsafe_view reshape flatten unflatten contiguous".split()
ELEMENTWISE = "add sub rsub mul div neg abs square sqrt exp clamp sigmoid tanh relu".split()


def channels_last(model: nn.Module, inputs: Sequence[Any]) -> fx.GraphModule:
    """Returns the model with 4-d weights in channels_last, and images converted where a layer reads them.

    A model that writes into a tensor through a reshaped view of it stays as it is: the view would become a copy.
    Elementwise operators take the image as it is: under a global residual no second copy of it is kept. Outputs come
    back in the default format.

    Raises:
        WithinError: when the model cannot be traced.
    """
    module = editable(model, inputs)
    graph = module.graph
    if _writes_through_views(module):
        return finished(module)
    for name, parameter in list(module.named_parameters()):
        if parameter.dim() == 4:
            set_parameter(module, name, parameter.detach().to(memory_format=torch.channels_last))
    for node in graph.nodes:
        if kind(node) in ("view", "_unsafe_view"):  # a view by NCHW strides is none by those of channels_last
            node.target = aten.reshape.default
    for node, user in _readings(graph):
        # of a single channel `contiguous` would keep the strides, which fit both formats
        convert = aten._to_copy.default if value(node).shape[1] == 1 else aten.contiguous.default
        with graph.inserting_before(user):
            inside = graph.call_function(convert, (node,), {"memory_format": torch.channels_last})
        user.replace_input_with(node, inside)
    output = next(node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(output):
        output.args = fx.map_arg(output.args, lambda item: _back(graph, item))
    return finished(module)


def _writes_through_views(module: fx.GraphModule) -> bool:
    found = lifetimes(module)
    views = [node for node in found.nodes if kind(node) in RESHAPES and is_tensor(node)]
    return any(
        overwritten(found, node) and set(found.storages[node]) & set(found.storages[node.all_input_nodes[0]])
        for node in views
    )


def _readings(graph: fx.Graph) -> list[tuple[fx.Node, fx.Node]]:
    """Returns each image, or elementwise function of images, with each layer that reads it."""
    images: set[fx.Node] = set()
    found = []
    for node in list(graph.nodes):
        sources = [source for source in node.all_input_nodes if source.op != "get_attr"]
        given = node.op == "placeholder" and is_tensor(node) and value(node).dim() == 4
        if given or (kind(node) in ELEMENTWISE and sources and all(source in images for source in sources)):
            images.add(node)
        elif node.op != "output" and kind(node) not in (*ELEMENTWISE, "sym_size", "contiguous", "_to_copy"):
            found += [(source, node) for source in sources if source in images]
    return found


def _back(graph: fx.Graph, node: fx.Node) -> fx.Node:
    if not is_tensor(node) or value(node).dim() != 4 or node.op == "placeholder":
        return node
    if kind(node) == "contiguous" and "memory_format" not in node.kwargs:
        return node
    return graph.call_function(aten.contiguous.default, (node,))
