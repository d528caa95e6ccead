"""A rewritten graph as an `fx.GraphModule`.

Parameter names stay those of the original model. Batch normalisation and dropout become modules again, so that
`train()` and `eval()` work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from within.core.graph.operator import Operator

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite

CARRIED = ("size_multiple", "scale")  # what callers ask a restoration network for
ASSERTIONS = {"_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size", "_assert_async"}
BATCH_NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
DROPOUTS: dict[str, type[nn.Module]] = {
    "dropout": nn.Dropout,
    "feature_dropout": nn.Dropout2d,
    "alpha_dropout": nn.AlphaDropout,
}

Mapping = dict[fx.Node, fx.Node]
Build = Callable[[fx.Graph, nn.Module, fx.Node], fx.Node]
"""Adds nodes that read a given node, and modules to the root; returns the node to read instead."""


def emit_module(rewrite: Rewrite) -> fx.GraphModule:
    """Builds the graph module of a rewrite, in the mode of the traced model.

    `node.meta["module"]` is the qualified name of the module of the original model that ran the operator.
    """
    graph = rewrite.graph
    root = _root_with_state(rewrite)
    operators = {op.name: op for op in graph.operators}
    new = fx.Graph()
    mapping: Mapping = {}
    extra: dict[str, fx.Node] = {}
    for node in graph.fx_graph.nodes:
        if node.op == "placeholder" and node.name not in graph.parameters:
            mapping[node] = new.placeholder(node.name)
    for node in graph.fx_graph.nodes:
        if node.op == "placeholder" and node.name in graph.parameters:
            if node.users:
                mapping[node] = new.get_attr(graph.parameters[node.name])
        elif node.op == "call_function":
            op = operators[node.name]
            if op.kind in ASSERTIONS or (not node.users and not op.in_place):
                continue
            own = mapping
            if node.name in rewrite.redirected:
                own = dict(mapping)
                for value, at_use in rewrite.redirected[node.name].items():
                    read = extra[value]
                    own[graph.nodes[value]] = read if at_use is None else at_use(new, root, read)
            mapping[node] = _emit(rewrite, new, root, op, own)
            mapping[node].meta["module"] = op.module
            if node.name in rewrite.inserted:
                extra[node.name] = rewrite.inserted[node.name](new, root, mapping[node])
        elif node.op == "output":
            results = [mapping[item] if isinstance(item, fx.Node) else item for item in node.args[0]]
            spec = graph.program.call_spec.out_spec
            new.output(pytree.tree_unflatten(results, spec) if spec is not None else results[0])
    module = fx.GraphModule(_Root(root), new, class_name=type(graph.model).__name__)
    module.graph.eliminate_dead_code()
    module.recompile()
    _complete(module, root, graph.model)
    module.train(graph.model.training)
    carry_attributes(graph.model, module)
    return module


def _root_with_state(rewrite: Rewrite) -> nn.Module:
    """Returns a tree of empty modules that holds every sliced parameter and buffer under its name."""
    root, graph = nn.Module(), rewrite.graph
    learnable = set(graph.program.graph_signature.inputs_to_parameters.values())
    persistent = set(graph.model.state_dict())
    requires_grad = {name: item.requires_grad for name, item in graph.model.named_parameters()}
    for name, tensor in rewrite.sliced_state().items():
        owner, leaf = _owner(root, name), name.rpartition(".")[2]
        if name in learnable:
            owner.register_parameter(leaf, nn.Parameter(tensor, requires_grad=requires_grad.get(name, True)))
        else:
            owner.register_buffer(leaf, tensor, persistent=name in persistent)
    return root


def carry_attributes(source: nn.Module, target: nn.Module) -> None:
    """Copies what callers ask a network for; a graph module forgets it when it is copied."""
    for name in CARRIED:
        if isinstance(getattr(source, name, None), int):
            setattr(target, name, getattr(source, name))


def _complete(module: nn.Module, root: nn.Module, dense: nn.Module) -> None:
    """Registers what the graph does not read: further names of tied tensors, and parameters that nothing uses."""
    persistent = set(dense.state_dict())
    first: dict[int, str] = {}
    for named in (dense.named_parameters, dense.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            source = first.setdefault(id(tensor), name)
            if _tensor_at(module, name) is not None:
                continue
            held = _tensor_at(module, source)
            held = _tensor_at(root, source) if held is None else held
            owner, leaf = _owner(module, name), name.rpartition(".")[2]
            if isinstance(held, nn.Parameter):
                owner.register_parameter(leaf, held)
            elif held is not None:
                owner.register_buffer(leaf, held, persistent=name in persistent)


def _tensor_at(module: nn.Module, name: str) -> torch.Tensor | None:
    path, _, leaf = name.rpartition(".")
    found = getattr(module.get_submodule(path), leaf, None) if _has(module, path) else None
    return found if isinstance(found, torch.Tensor) else None


def _emit(rewrite: Rewrite, new: fx.Graph, root: nn.Module, op: Operator, mapping: Mapping) -> fx.Node:
    if op.name in rewrite.replaced:
        return rewrite.replaced[op.name](new, mapping)
    changes = rewrite.arguments.get(op.name, {})
    path = _batch_norm(rewrite, root, op, op.arguments | changes) if op.kind == "batch_norm" else None
    if op.kind in DROPOUTS and not op["train"]:
        path = _dropout(root, op)
    if path is not None:
        return new.call_module(path, (mapping[op["input"]],))
    return call(new, op.node, mapping, changes)


def _batch_norm(rewrite: Rewrite, root: nn.Module, op: Operator, arguments: dict[str, Any]) -> str | None:
    """Makes the module that holds the statistics a batch normalisation; returns its path, None where it cannot be."""
    if op["running_mean"] is None or op["training"]:
        return None
    names = rewrite.graph.parameters
    path, _, leaf = names.get(op["running_mean"].name, "").rpartition(".")
    weight = op["weight"]
    if leaf != "running_mean" or (weight is not None and names.get(weight.name, "").rpartition(".")[0] != path):
        return None
    existing = root.get_submodule(path) if path else root
    if not isinstance(existing, tuple(BATCH_NORMS.values())):
        mean = existing.get_buffer("running_mean")
        module = BATCH_NORMS[len(op.shape)](
            len(mean), eps=arguments["eps"], momentum=arguments["momentum"], affine=weight is not None
        )
        _adopt(module, existing)
        _set_submodule(root, path, module)
    return path


def _dropout(root: nn.Module, op: Operator) -> str:
    """Makes the module that called a dropout one, or a new module beside it; returns its path."""
    kind, path = DROPOUTS[op.kind], op.module or f"{op.name}_module"
    if not _has(root, path):
        _set_submodule(root, path, kind(op["p"]))
    if not isinstance(root.get_submodule(path), kind):
        path = f"{path.replace('.', '_')}_{op.name}"
        _set_submodule(root, path, kind(op["p"]))
    return path


class _Root(nn.Module):
    """Gives fx the tree of modules that was built, under the root's own names."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        for name, child in root.named_children():
            self.add_module(name, child)
        for name, parameter in root.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        persistent = set(root.state_dict())
        for name, buffer in root.named_buffers(recurse=False):
            self.register_buffer(name, buffer, persistent=name in persistent)


def _owner(root: nn.Module, name: str) -> nn.Module:
    module = root
    for part in name.split(".")[:-1]:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        child = module._modules[part]
        assert child is not None
        module = child
    return module


def _has(root: nn.Module, path: str) -> bool:
    try:
        root.get_submodule(path)
    except AttributeError:
        return False
    return True


def _set_submodule(root: nn.Module, path: str, module: nn.Module) -> None:
    owner = _owner(root, path)
    owner.add_module(path.rpartition(".")[2], module)


def _adopt(module: nn.Module, existing: nn.Module) -> None:
    for name, parameter in existing.named_parameters(recurse=False):
        module.register_parameter(name, parameter)
    persistent = set(existing.state_dict())
    for name, buffer in existing.named_buffers(recurse=False):
        module.register_buffer(name, buffer, persistent=name in persistent)
    if "num_batches_tracked" not in existing._buffers:
        module.register_buffer("num_batches_tracked", torch.tensor(0), persistent=False)
    for name, child in existing.named_children():
        module.add_module(name, child)


def index_by(new: fx.Graph, source: fx.Node, axis: int, positions: list[int]) -> fx.Node:
    """Adds nodes that select positions of an axis."""
    index = new.call_function(_positions, (positions, source))
    return new.call_function(torch.ops.aten.index_select.default, (source, axis, index))


def _positions(positions: list[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(positions, dtype=torch.int64, device=like.device)


def call(new: fx.Graph, node: fx.Node, mapping: dict[fx.Node, fx.Node], changes: dict[str, Any]) -> fx.Node:
    """Copies a call with mapped inputs and changed arguments."""
    args, kwargs = list(node.args), dict(node.kwargs)
    if changes:
        schema = node.target._schema  # type: ignore[union-attr]
        names = [argument.name for argument in schema.arguments]
        keyword_only = {argument.name for argument in schema.arguments if argument.kwarg_only}
        for name, value in changes.items():
            position = names.index(name)
            if name in keyword_only or position > len(args):
                kwargs[name] = value
            elif position == len(args):
                args.append(value)
            else:
                args[position] = value
    mapped_args = fx.map_arg(tuple(args), lambda item: mapping[item])
    mapped_kwargs = fx.map_arg(kwargs, lambda item: mapping[item])
    target = node.target
    assert callable(target)
    return new.call_function(target, mapped_args, mapped_kwargs)
