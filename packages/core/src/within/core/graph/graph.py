"""`Graph`: one model, traced once; operators, values, parameters, channel groups and sizes under a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from within.core.errors import WithinError
from within.core.graph.channel_groups import AxisIndex, ChannelGroup, Grouping, build_groups
from within.core.graph.coupling import Coupling
from within.core.graph.operator import Operator, Shape, concrete, read_operators, shape_of, tensor_of
from within.core.graph.rules import rule_of, storage_of

Widths = Mapping[str, int]
Kept = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Unsupported:
    """An operator kind without a rule, and where it stands; the channels that reach it are never cut."""

    kind: str
    places: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """A traced model.

    Attributes:
        model: the model that was traced.
        inputs: the example inputs.
        program: the exported program (ATen operators, in execution order).
        operators: its operators.
        parameters: qualified name of each parameter, buffer and constant, by value name; a tensor that the model has
            under several names goes by the first of them.
        heads, grouped: how attention heads and grouped convolutions shrink (see `Coupling`).
        notes: in words, the sizes that a dynamic trace could not leave open.
    """

    model: nn.Module = field(repr=False)
    inputs: tuple[Any, ...] = field(repr=False)
    program: torch.export.ExportedProgram = field(repr=False)
    operators: tuple[Operator, ...] = field(repr=False)
    parameters: dict[str, str] = field(repr=False)
    heads: str = "dimension"
    grouped: str = "within"
    notes: tuple[str, ...] = ()

    @property
    def fx_graph(self) -> fx.Graph:
        """The exported fx graph."""
        return self.program.graph_module.graph

    @cached_property
    def nodes(self) -> dict[str, fx.Node]:
        """fx nodes by name."""
        return {node.name: node for node in self.fx_graph.nodes}

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Value names of the user's inputs."""
        return tuple(
            node.name for node in self.fx_graph.nodes if node.op == "placeholder" and node.name not in self.parameters
        )

    @cached_property
    def output_nodes(self) -> tuple[fx.Node, ...]:
        """The nodes that the model returns."""
        output = next(node for node in self.fx_graph.nodes if node.op == "output")
        return tuple(dict.fromkeys(output.all_input_nodes))

    def bind(self, inputs: Sequence[Any]) -> list[Any]:
        """Returns the arguments of the exported program: the model's own tensors as they are now, and the inputs.

        Parameters keep their identity, so that a program run on them can be differentiated.
        """
        own = named_tensors(self.model)
        remaining = list(inputs)
        arguments = []
        for node in self.fx_graph.nodes:
            if node.op == "placeholder":
                name = self.parameters.get(node.name)
                if name is None:
                    arguments.append(remaining.pop(0))
                else:
                    arguments.append(own[name] if name in own else self.program.constants[name])
        return arguments

    # ---- channel groups

    @cached_property
    def coupling(self) -> Coupling:
        """The propagated channel labels."""
        coupling = Coupling(heads=self.heads, grouped=self.grouped)
        labelled: dict[str, str] = {}
        for node in self.fx_graph.nodes:
            if node.op == "placeholder" and node.name in self.parameters and tensor_of(node) is not None:
                first = labelled.setdefault(self.parameters[node.name], node.name)
                if first == node.name:
                    coupling.fresh(node.name, shape_of(node))
                else:  # tied: one tensor, one set of labels
                    coupling.values[node.name] = coupling.values[first]
        for op in self.operators:
            found = rule_of(op)
            if not op.shapes:  # arithmetic on sizes in a symbolic trace
                continue
            if found is not None:
                found.couple(coupling, op)
                if op.in_place:
                    coupling.values[op.tensors[0].name] = coupling.of(op.node)
            else:
                for node in op.tensors:
                    coupling.freeze(node, f"operator {op.kind} has no rule ({op.location or op.module})")
        for node in self.output_nodes:
            coupling.freeze(node, "reaches the output of the model")
        return coupling

    @cached_property
    def _grouping(self) -> Grouping:
        return build_groups(self.coupling, self.parameters)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Returns all channel groups that may be cut, in order of first appearance."""
        return self._grouping.groups

    @property
    def axes(self) -> dict[str, dict[int, AxisIndex]]:
        """For each value, the index of each axis that carries channels."""
        return self._grouping.axes

    @property
    def frozen(self) -> dict[str, str]:
        """Parameters whose output channels may not be cut, and why."""
        return self._grouping.frozen

    @cached_property
    def unsupported(self) -> tuple[Unsupported, ...]:
        """Operator kinds without a rule."""
        places: dict[str, list[str]] = {}
        for op in self.operators:
            if rule_of(op) is None and op.shapes:
                places.setdefault(op.kind, []).append(op.location or op.module or op.name)
        return tuple(Unsupported(kind, tuple(dict.fromkeys(found))) for kind, found in sorted(places.items()))

    def group(self, name: str) -> ChannelGroup:
        """Returns a group by name.

        Raises:
            WithinError: when there is none.
        """
        for group in self.channel_groups():
            if group.name == name:
                return group
        raise WithinError(
            f"There is no channel group named {name!r}",
            where=type(self.model).__name__,
            todo="list them with graph.channel_groups()",
        )

    # ---- sizes under a decision

    def width_vector(self, widths: Widths | None = None) -> NDArray[np.int64]:
        """Returns the atoms kept in each group: all of them, except where `widths` says otherwise."""
        groups = self.channel_groups()
        vector = np.array([group.size for group in groups], dtype=np.int64)
        if widths:
            index = {group.name: position for position, group in enumerate(groups)}
            for name, width in widths.items():
                position = index.get(name)
                if position is None:
                    self.group(name)
                    continue
                if not 0 < width <= groups[position].size:
                    raise WithinError(
                        f"Width {width} is out of range", where=name, todo=f"choose 1 to {groups[position].size}"
                    )
                vector[position] = width
        return vector

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Concrete shapes of all tensor values, `name:i` for the outputs of operators that have several."""
        shapes: dict[str, Shape] = {}
        for node in self.fx_graph.nodes:
            value = node.meta.get("val")
            if isinstance(value, torch.Tensor):
                shapes[node.name] = tuple(concrete(size) for size in value.shape)
            elif isinstance(value, (tuple, list)):
                for position, item in enumerate(value):
                    if isinstance(item, torch.Tensor):
                        shapes[f"{node.name}:{position}"] = tuple(concrete(size) for size in item.shape)
        return shapes

    def shape(self, value: str, vector: NDArray[np.int64] | None = None) -> Shape:
        """Returns the shape of a value, dense or under a width vector."""
        dense = self.shapes[value]
        if vector is None:
            return dense
        axes = self.axes.get(value)
        if not axes:
            return dense
        sizes = list(dense)
        for axis, index in axes.items():
            sizes[axis] = index.size(vector)
        return tuple(sizes)

    def keep_masks(self, kept: Kept) -> list[NDArray[np.bool_]]:
        """Returns for each group a mask over its atoms, from the atoms that `kept` names (others keep all)."""
        masks = []
        for group in self.channel_groups():
            mask = np.ones(group.size, dtype=bool)
            if group.name in kept:
                mask[:] = False
                mask[list(kept[group.name])] = True
            masks.append(mask)
        return masks

    # ---- storage

    @cached_property
    def storages(self) -> dict[str, tuple[int, int]]:
        """For each tensor value: the identity of its storage and the storage's bytes, as the trace saw them.

        Views and in-place results share the identity of what they alias. Whether a reshape copies is read off here
        and not off its name; only where the trace lost an identity (dropout outside of training) does the rule say it.
        """
        found: dict[str, tuple[int, int]] = {}
        same: dict[int, tuple[int, int]] = {}
        operators = {op.node: op for op in self.operators}
        for node in self.fx_graph.nodes:
            value = node.meta.get("val")
            items = list(enumerate(value)) if isinstance(value, (tuple, list)) else [(None, value)]
            for position, item in items:
                if isinstance(item, torch.Tensor):
                    storage = item.untyped_storage()
                    name = node.name if position is None else f"{node.name}:{position}"
                    own = (storage._cdata, concrete(storage.nbytes()))
                    op = operators.get(node)
                    if op is not None and position is None and op.tensors and storage_of(op) == "view":
                        source = found[op.tensors[0].name]
                        if own[0] != source[0]:
                            same[own[0]] = source
                    found[name] = same.get(own[0], own)
        return found


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Returns all parameters and buffers of a model, under every name that they have."""
    found: dict[str, torch.Tensor] = dict(model.named_buffers(remove_duplicate=False))
    found.update(model.named_parameters(remove_duplicate=False))
    return found


def read_graph(
    model: nn.Module,
    inputs: tuple[Any, ...],
    program: torch.export.ExportedProgram,
    *,
    heads: str = "dimension",
    grouped: str = "within",
    notes: tuple[str, ...] = (),
) -> Graph:
    """Builds a `Graph` from an exported program."""
    signature = program.graph_signature
    parameters = dict(signature.inputs_to_parameters) | dict(signature.inputs_to_buffers)
    parameters |= dict(signature.inputs_to_lifted_tensor_constants)
    first = first_names(model)
    parameters = {value: first.get(name, name) for value, name in parameters.items()}
    return Graph(model, inputs, program, read_operators(program.graph_module.graph), parameters, heads, grouped, notes)


def first_names(model: nn.Module) -> dict[str, str]:
    """Returns for every name of a parameter or buffer the first name of the same tensor."""
    first: dict[int, str] = {}
    names = {}
    for named in (model.named_parameters, model.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            names[name] = first.setdefault(id(tensor), name)
    return names
