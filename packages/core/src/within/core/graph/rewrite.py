"""A traced graph with channels removed: parameters sliced, hard-coded sizes edited, as an `fx.GraphModule`.

Parameter names stay those of the original model. Batch normalisation and dropout become modules again, so that
`train()` and `eval()` work; convolutions and linear layers do where the trace shows the plain module.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.utils import _pytree as pytree

from within.core.errors import WithinError
from within.core.graph.graph import Graph
from within.core.graph.operator import Operator, Shape, shape_of
from within.core.graph.rules import rule_of

CARRIED = ("size_multiple", "scale")  # what callers ask a restoration network for
ASSERTIONS = {"_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size", "_assert_async"}


Build = Callable[[fx.Graph, nn.Module, fx.Node], fx.Node]
"""Adds nodes that read a given node, and modules to the root; returns the node to read instead."""


class Rewrite:
    """The edits that a choice of kept atoms asks for; rules call the verbs below from their `resize` facet."""

    def __init__(self, graph: Graph, keep: list[NDArray[np.bool_]]) -> None:
        self.graph = graph
        self.keep = keep
        self.vector = np.array([int(mask.sum()) for mask in keep], dtype=np.int64)
        self.arguments: dict[str, dict[str, Any]] = {}
        self.replaced: dict[str, Callable[[fx.Graph, dict[fx.Node, fx.Node]], fx.Node]] = {}
        self.inserted: dict[str, Build] = {}
        self.redirected: dict[str, dict[str, Build | None]] = {}
        for op in graph.operators:
            found = rule_of(op)
            if found is not None and found.resize is not None:
                found.resize(self, op)

    # ---- what the rules ask

    def shape(self, node: fx.Node) -> Shape:
        """Returns the shape of a value after the cut."""
        return self.graph.shape(node.name, self.vector)

    def changed(self, node: fx.Node, axis: int) -> bool:
        """Whether an axis of a value gets shorter."""
        return self.shape(node)[axis] != shape_of(node)[axis]

    def kept(self, node: fx.Node, axis: int) -> NDArray[np.int64]:
        """Returns the positions of an axis that stay."""
        return self.kept_of(node.name, axis, shape_of(node)[axis])

    def kept_of(self, value: str, axis: int, length: int) -> NDArray[np.int64]:
        """As `kept`, by value name."""
        index = self.graph.axes.get(value, {}).get(axis)
        return np.arange(length) if index is None else index.kept(self.keep)

    # ---- what the rules do

    def set(self, op: Operator, argument: str, value: Any) -> None:
        """Sets an argument of an operator."""
        if value != op.arguments.get(argument):
            self.arguments.setdefault(op.name, {})[argument] = value

    def replace_split(self, op: Operator, axis: int) -> None:
        """Splits at explicit sizes."""
        sizes = [self.graph.shape(f"{op.name}:{part}", self.vector)[axis] for part in range(len(op.shapes))]

        def build(new: fx.Graph, mapping: dict[fx.Node, fx.Node]) -> fx.Node:
            return new.call_function(torch.ops.aten.split_with_sizes.default, (mapping[op["self"]], sizes, axis))

        self.replaced[op.name] = build

    def replace_by_index(self, op: Operator, axis: int, positions: NDArray[np.int64]) -> None:
        """Selects explicit positions of an axis."""
        wanted = positions.tolist()

        def build(new: fx.Graph, mapping: dict[fx.Node, fx.Node]) -> fx.Node:
            source = mapping[op["self"]]
            return _index(new, source, axis, wanted)

        self.replaced[op.name] = build

    def expand_where_mixed(self, op: Operator, source: fx.Node) -> None:
        """For an operator that mixes neighbouring channels: puts zeros back before it and takes them out after it."""
        if self.graph.coupling.sensitive.get(op.name) != "expand":
            return
        axes = [axis for axis in self.graph.axes.get(source.name, {}) if axis > 1 and self.changed(source, axis)]
        if not axes:
            return
        axis = axes[0]
        dense, kept = shape_of(source)[axis], self.kept(source, axis).tolist()
        gather = [kept.index(position) if position in kept else len(kept) for position in range(dense)]

        def build(new: fx.Graph, mapping: dict[fx.Node, fx.Node]) -> fx.Node:
            rank = len(shape_of(source))
            padded = new.call_function(
                torch.ops.aten.constant_pad_nd.default, (mapping[source], [0, 0] * (rank - 1 - axis) + [0, 1])
            )
            full = _index(new, padded, axis, gather)
            inner = dict(mapping)
            inner[source] = full
            result = _copy(new, op.node, inner, self.arguments.get(op.name, {}))
            return _index(new, result, axis, kept)

        self.replaced[op.name] = build

    def insert(self, value: str, build: Build, readers: Sequence[str], at_use: Build | None = None) -> None:
        """Puts new nodes right after a value; the named readers read their result, through `at_use` where given."""
        self.inserted[value] = build
        for reader in readers:
            self.redirected.setdefault(reader, {})[value] = at_use

    # ---- parameters

    def slice_tensor(self, value: str, tensor: torch.Tensor) -> torch.Tensor:
        """Returns a parameter or buffer with the removed positions of every axis taken out."""
        for axis, index in self.graph.axes.get(value, {}).items():
            if index.size(self.vector) != tensor.shape[axis]:
                positions = torch.from_numpy(index.kept(self.keep)).to(tensor.device)
                tensor = tensor.index_select(axis, positions)
        return tensor

    def sliced_state(self) -> dict[str, torch.Tensor]:
        """Returns every parameter, buffer and lifted constant after the cut, by qualified name."""
        tensors: dict[str, torch.Tensor] = dict(self.graph.program.state_dict)
        tensors |= {name: item for name, item in self.graph.program.constants.items() if isinstance(item, torch.Tensor)}
        own = dict(self.graph.model.named_parameters()) | dict(self.graph.model.named_buffers())
        result = {}
        for value, name in self.graph.parameters.items():
            tensor = own.get(name, tensors.get(name))
            if tensor is None:
                raise WithinError("The trace refers to a tensor that the model does not have", where=name)
            result[name] = self.slice_tensor(value, tensor.detach()).clone()
        return result

    # ---- the module

    def module(self) -> fx.GraphModule:
        """Builds the graph module."""
        root = nn.Module()
        state = self.sliced_state()
        names = dict(self.graph.parameters)
        signature = self.graph.program.graph_signature
        learnable = set(signature.inputs_to_parameters.values())
        persistent = set(self.graph.model.state_dict())
        requires_grad = {name: item.requires_grad for name, item in self.graph.model.named_parameters()}
        for name, tensor in state.items():
            owner = _owner(root, name)
            leaf = name.rpartition(".")[2]
            if name in learnable:
                owner.register_parameter(leaf, nn.Parameter(tensor, requires_grad=requires_grad.get(name, True)))
            else:
                owner.register_buffer(leaf, tensor, persistent=name in persistent)
        new = fx.Graph()
        mapping: dict[fx.Node, fx.Node] = {}
        for node in self.graph.fx_graph.nodes:
            if node.op == "placeholder" and node.name not in names:
                mapping[node] = new.placeholder(node.name)
        operators = {op.name: op for op in self.graph.operators}
        extra: dict[str, fx.Node] = {}
        for node in self.graph.fx_graph.nodes:
            if node.op == "placeholder" and node.name in names:
                if node.users:
                    mapping[node] = new.get_attr(names[node.name])
            elif node.op == "call_function":
                op = operators[node.name]
                if op.kind in ASSERTIONS or (not node.users and not op.in_place):
                    continue
                own = dict(mapping)
                for value, at_use in self.redirected.get(node.name, {}).items():
                    read = extra[value]
                    own[self.graph.nodes[value]] = read if at_use is None else at_use(new, root, read)
                mapping[node] = self._emit(new, root, op, own)
                if node.name in self.inserted:
                    extra[node.name] = self.inserted[node.name](new, root, mapping[node])
            elif node.op == "output":
                results = [mapping[item] if isinstance(item, fx.Node) else item for item in node.args[0]]
                spec = self.graph.program.call_spec.out_spec
                new.output(pytree.tree_unflatten(results, spec) if spec is not None else results[0])
        module = fx.GraphModule(_Root(root), new, class_name=type(self.graph.model).__name__)
        module.graph.eliminate_dead_code()
        module.recompile()
        module.train(self.graph.model.training)
        for name in CARRIED:
            if isinstance(getattr(self.graph.model, name, None), int):
                setattr(module, name, getattr(self.graph.model, name))
        return module

    def _emit(self, new: fx.Graph, root: nn.Module, op: Operator, mapping: dict[fx.Node, fx.Node]) -> fx.Node:
        if op.name in self.replaced:
            return self.replaced[op.name](new, mapping)
        emitted = self._call_module(new, root, op, mapping)
        if emitted is not None:
            return emitted
        return _copy(new, op.node, mapping, self.arguments.get(op.name, {}))

    def _call_module(
        self, new: fx.Graph, root: nn.Module, op: Operator, mapping: dict[fx.Node, fx.Node]
    ) -> fx.Node | None:
        """Emits a leaf module whose behaviour depends on the mode: batch normalisation and dropout."""
        arguments = op.arguments | self.arguments.get(op.name, {})
        if op.kind == "batch_norm" and op["running_mean"] is not None and not op["training"]:
            path, _, leaf = self.graph.parameters.get(op["running_mean"].name, "").rpartition(".")
            weight = op["weight"]
            if leaf != "running_mean":
                return None
            if weight is not None and self.graph.parameters.get(weight.name, "").rpartition(".")[0] != path:
                return None
            rank = len(op.shape)
            kinds: dict[int, type[nn.Module]] = {
                2: nn.BatchNorm1d,
                3: nn.BatchNorm1d,
                4: nn.BatchNorm2d,
                5: nn.BatchNorm3d,
            }
            existing = root.get_submodule(path) if path else root
            if not isinstance(existing, tuple(kinds.values())):
                mean = existing.get_buffer("running_mean")
                module = kinds[rank](
                    len(mean), eps=arguments["eps"], momentum=arguments["momentum"], affine=weight is not None
                )
                _adopt(module, existing)
                _set_submodule(root, path, module)
            return new.call_module(path, (mapping[op["input"]],))
        if op.kind in ("dropout", "feature_dropout", "alpha_dropout") and not op["train"]:
            path = op.module or f"{op.name}_module"
            if not _has(root, path):
                kind = {"dropout": nn.Dropout, "feature_dropout": nn.Dropout2d, "alpha_dropout": nn.AlphaDropout}[
                    op.kind
                ]
                _set_submodule(root, path, kind(op["p"]))
            if not isinstance(root.get_submodule(path), (nn.Dropout, nn.Dropout2d, nn.AlphaDropout)):
                path = f"{path.replace('.', '_')}_{op.name}"
                _set_submodule(root, path, nn.Dropout(op["p"]))
            return new.call_module(path, (mapping[op["input"]],))
        return None


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


def _index(new: fx.Graph, source: fx.Node, axis: int, positions: list[int]) -> fx.Node:
    index = new.call_function(_positions, (positions, source))
    return new.call_function(torch.ops.aten.index_select.default, (source, axis, index))


def _positions(positions: list[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(positions, dtype=torch.int64, device=like.device)


def _copy(new: fx.Graph, node: fx.Node, mapping: dict[fx.Node, fx.Node], changes: dict[str, Any]) -> fx.Node:
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
    assert callable(target) or target is operator.getitem
    return new.call_function(target, mapped_args, mapped_kwargs)  # type: ignore[arg-type]
