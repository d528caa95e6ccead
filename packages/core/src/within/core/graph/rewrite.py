"""The edits to a traced graph that removing channels asks for: parameters sliced, hard-coded sizes changed.

`Rewrite` collects them from the `resize` facet of each operator's rule; `emission` builds the module that has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from within.core.errors import WithinError
from within.core.graph.emission import Build, call, emit_module, index_by
from within.core.graph.graph import Graph
from within.core.graph.operator import Operator, Shape, shape_of
from within.core.graph.rules import rule_of


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
            return index_by(new, source, axis, wanted)

        self.replaced[op.name] = build

    def expand_where_mixed(self, op: Operator, source: fx.Node) -> None:
        """For an operator that mixes neighbouring channels: puts zeros back before it and takes them out after it."""
        if op.name not in self.graph.coupling.mixing:
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
            full = index_by(new, padded, axis, gather)
            inner = dict(mapping)
            inner[source] = full
            result = call(new, op.node, inner, self.arguments.get(op.name, {}))
            return index_by(new, result, axis, kept)

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
        """Builds the graph module (see `within.core.graph.emission`)."""
        return emit_module(self)
