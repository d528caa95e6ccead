"""A model as an fx graph that transforms can edit: ATen calls with symbolic batch and image sizes where possible.

The graph is the identity `Rewrite` of a trace: parameters are attributes under their own names; batch normalisation and
dropout are modules, so `train()` and `eval()` still switch. Sizes that a transform needs are computed from the input in
the graph, so that the result takes other image sizes where the model did.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from within.core.device.inference import evaluating
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.graph.emission import CARRIED
from within.core.graph.operator import short_kind
from within.core.graph.rewrite import Rewrite

LEAVES = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
aten = torch.ops.aten


def editable(model: nn.Module, inputs: Sequence[Any]) -> fx.GraphModule:
    """Returns a graph module that may be edited, with `node.meta["val"]`, the fake value of each node, filled in.

    A plain model is traced and its parameters are copied. A graph module that came from here is not traced again; its
    graph is copied and its parameters are shared with the result.

    Raises:
        WithinError: when the model cannot be traced or the inputs do not fit it.
    """
    if isinstance(model, fx.GraphModule) and is_editable(model):
        module = duplicate(model)
    else:
        graph = trace(model, tuple(inputs), dynamic=True)
        keep = [np.ones(group.size, dtype=bool) for group in graph.channel_groups()]
        module = Rewrite(graph, keep).module()
    annotate(module, inputs)
    return module


def is_editable(module: fx.GraphModule) -> bool:
    """Whether a graph module consists of ATen calls, arithmetic on sizes and leaf modules alone."""
    for node in module.graph.nodes:
        if node.op == "call_method" or (
            node.op == "call_module" and not isinstance(module.get_submodule(str(node.target)), LEAVES)
        ):
            return False
        if node.op == "call_function" and not isinstance(node.target, torch._ops.OpOverload):
            home = getattr(node.target, "__module__", "")
            if node.target is not torch.sym_max and home not in ("_operator", "operator", "within.core.graph.emission"):
                return False
    return True


def finished(module: fx.GraphModule) -> fx.GraphModule:
    """Removes dead nodes and the annotations, checks the graph and generates its code."""
    module.graph.eliminate_dead_code()
    module.graph.lint()
    for node in module.graph.nodes:
        node.meta.pop("val", None)
    module.recompile()
    return module


def with_graph(module: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    """Returns a graph module with the parameters and modules of `module` and another graph.

    Also with what no node reads: tied tensors under their further names, unused parameters.
    """
    result = fx.GraphModule(module, graph, class_name=type(module).__name__)
    result.training = module.training
    persistent = set(module.state_dict())
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if not _has(result, name):
            owner, leaf = _owner(result, name)
            owner.register_parameter(leaf, parameter)
    for name, buffer in module.named_buffers(remove_duplicate=False):
        owner, leaf = _owner(result, name)
        if leaf not in owner._buffers or name not in persistent:  # fx copies every buffer as a persistent one
            owner.register_buffer(leaf, buffer, persistent=name in persistent)
    for name in CARRIED:
        if hasattr(module, name):
            setattr(result, name, getattr(module, name))
    return result


def set_parameter(module: nn.Module, name: str, new: Tensor) -> None:
    """Replaces a parameter, under every name that it has; `requires_grad` stays, a new name gets that of `new`."""
    owner, leaf = _owner(module, name)
    old = owner._parameters.get(leaf)
    if old is None:
        owner.register_parameter(leaf, nn.Parameter(new, requires_grad=new.requires_grad))
        return
    parameter = nn.Parameter(new.detach(), requires_grad=old.requires_grad)
    for other, held in list(module.named_parameters(remove_duplicate=False)):
        if held is old:
            owner, leaf = _owner(module, other)
            owner.register_parameter(leaf, parameter)


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Returns the module that holds a tensor, made where it is missing, and the tensor's own name."""
    path, _, leaf = name.rpartition(".")
    for part in path.split(".") if path else []:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        child = module._modules[part]
        assert child is not None
        module = child
    return module, leaf


def _has(module: nn.Module, name: str) -> bool:
    path, _, leaf = name.rpartition(".")
    try:
        return leaf in module.get_submodule(path)._parameters
    except AttributeError:
        return False


def duplicate(module: fx.GraphModule) -> fx.GraphModule:
    """Returns a copy of the graph, node names kept, on the same parameters and modules."""
    return with_graph(module, _copied(module.graph))


def _copied(graph: fx.Graph) -> fx.Graph:
    new = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        mapping[node] = new.node_copy(node, lambda item: mapping[item])
    return new


def annotate(module: fx.GraphModule, inputs: Sequence[Any]) -> None:
    """Fills in `node.meta["val"]` for every node, computing nothing (fake tensors, eval mode)."""
    with evaluating(module), FakeTensorMode(allow_non_fake_inputs=True) as fake:
        values = [fake.from_tensor(item) if isinstance(item, Tensor) else item for item in inputs]
        try:
            _Annotation(module, fake).run(*values)
        except RuntimeError as error:
            raise WithinError(
                f"The inputs do not fit the model: {error}", where=", ".join(str(tuple(v.shape)) for v in values)
            ) from error


class _Annotation(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, fake: FakeTensorMode) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._fake = fake

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["val"] = result
        return result

    def fetch_attr(self, target: str) -> Any:
        value = super().fetch_attr(target)
        return self._fake.from_tensor(value) if isinstance(value, Tensor) else value


def place_after(nodes: Sequence[fx.Node]) -> fx.Node:
    """Returns the node before which something that reads `nodes` can stand at the earliest; parameters come first."""
    place = max(nodes).next
    while place.op in ("placeholder", "get_attr"):
        place = place.next
    return place


# ---- reading nodes


def value(node: Any) -> Tensor:
    """Returns the fake tensor of an annotated node."""
    found = node.meta["val"]
    assert isinstance(found, Tensor)
    return found


def is_tensor(node: Any) -> bool:
    """Whether an argument is a node that produces one tensor."""
    return isinstance(node, fx.Node) and isinstance(node.meta.get("val"), Tensor)


def kind(node: fx.Node) -> str:
    """Returns the operator's name without namespace, overload and in-place underscore; "" for other nodes."""
    return short_kind(node.target) if node.op == "call_function" else ""


def arguments(node: fx.Node) -> dict[str, Any]:
    """Returns the arguments of an ATen call by their schema names, defaults filled in."""
    assert isinstance(node.target, torch._ops.OpOverload)
    found: dict[str, Any] = {}
    for position, argument in enumerate(node.target._schema.arguments):
        if position < len(node.args):
            found[argument.name] = node.args[position]
        elif argument.name in node.kwargs:
            found[argument.name] = node.kwargs[argument.name]
        elif argument.has_default_value():
            found[argument.name] = argument.default_value
    return found


def writes(node: fx.Node) -> bool:
    """Whether a node overwrites one of its inputs."""
    return isinstance(node.target, torch._ops.OpOverload) and bool(node.target._schema.is_mutable)


def is_channels_last(tensor: Tensor) -> bool:
    """Whether a 4-d tensor has the strides of channels_last and not those of the default format too."""
    last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()


def channel_slice(graph: fx.Graph, node: fx.Node, axis: int, start: int, end: int) -> fx.Node:
    """Emits a view of the positions start to end of an axis."""
    return graph.call_function(aten.slice.Tensor, (node, axis, start, end))


def empty_like_with(
    graph: fx.Graph, like: fx.Node, channels: int, image: Sequence[Any] | None = None, *, last: bool = False
) -> fx.Node:
    """Emits an uninitialised tensor shaped as the annotated node `like`, with another number of channels.

    Arguments:
        image: sizes of the axes after the channels (numbers or nodes); by default those of `like`.
        last: in the channels_last memory format.
    """
    batch = graph.call_function(aten.sym_size.int, (like, 0))
    if image is None:
        image = [graph.call_function(aten.sym_size.int, (like, axis)) for axis in range(2, value(like).dim())]
    if last:
        buffer = graph.call_function(aten.new_empty.default, (like, [batch, *image, channels]))
        return graph.call_function(aten.permute.default, (buffer, [0, 3, 1, 2]))
    return graph.call_function(aten.new_empty.default, (like, [batch, channels, *image]))


def scaled(graph: fx.Graph, size: fx.Node, factor: int, offset: int) -> fx.Node:
    """Emits factor * size + offset, for a node that produces a size."""
    result = size if factor == 1 else graph.call_function(operator.mul, (size, factor))
    return result if offset == 0 else graph.call_function(operator.add, (result, offset))
