"""Channel groups: all (tensor, axis) that can only be cut together, with the index map of each.

An *atom* is an equivalence class of labels: the smallest set of positions that must go together (one channel, or one
channel in each group of a grouped convolution, or one dimension of every attention head). A *group* is the set of
atoms that occur equally often on exactly the same axes, so that its atoms are exchangeable and only their number
matters to every size in the graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from within.core.graph.coupling import Coupling


@dataclass(frozen=True, eq=False)
class Member:
    """One axis of one tensor that a group cuts.

    Attributes:
        tensor: qualified name of a parameter or buffer, or name of a value of the graph.
        axis: the axis.
        is_parameter: whether it is a parameter or buffer (otherwise an activation).
        atoms: for each position of the axis, the atom it belongs to, or -1: the index map.
    """

    tensor: str
    axis: int
    is_parameter: bool
    atoms: NDArray[np.int64]

    @property
    def positions_per_atom(self) -> int:
        """How many positions of the axis one atom occupies."""
        return int((self.atoms == 0).sum())


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that are cut together across the whole network.

    Attributes:
        name: the first parameter axis that produces them, e.g. `layer1.0.conv1.weight`.
        size: how many atoms there are.
        members: every axis that is cut, parameters first.
        classes: label class of each atom (internal).
    """

    name: str
    size: int
    members: tuple[Member, ...] = field(repr=False)
    classes: NDArray[np.int64] = field(repr=False)

    @property
    def parameters(self) -> tuple[Member, ...]:
        """The members that are parameters or buffers."""
        return tuple(member for member in self.members if member.is_parameter)

    @property
    def activations(self) -> tuple[Member, ...]:
        """The members that are activations."""
        return tuple(member for member in self.members if not member.is_parameter)


@dataclass(frozen=True, eq=False)
class AxisIndex:
    """The label classes along one axis of one value, and what they are made of once groups exist.

    Attributes:
        classes: label class of each position.
        groups: index of the group of each position, -1 where the position is fixed.
        atoms: atom within the group of each position.
    """

    classes: NDArray[np.int64]
    groups: NDArray[np.int64]
    atoms: NDArray[np.int64]
    counts: tuple[tuple[int, int], ...]  # (group, positions per atom)
    fixed: int

    def size(self, widths: NDArray[np.int64]) -> int:
        """Returns the length of the axis when group g keeps widths[g] atoms."""
        return self.fixed + sum(int(per_atom * widths[group]) for group, per_atom in self.counts)

    def kept(self, keep: list[NDArray[np.bool_]]) -> NDArray[np.int64]:
        """Returns the positions that stay when group g keeps the atoms keep[g]."""
        mask = np.ones(len(self.classes), dtype=bool)
        for group, _ in self.counts:
            here = self.groups == group
            mask[here] = keep[group][self.atoms[here]]
        return np.flatnonzero(mask)


def settle_joint_components(coupling: Coupling) -> None:
    """Makes every value rectangular: components still joint over several axes are resolved to the innermost one."""
    changed = True
    while changed:
        changed = False
        seen: set[int] = set()
        for components in coupling.values.values():
            for component in components:
                if len(component.axes) == 1 or id(component) in seen:
                    continue
                seen.add(id(component))
                simplified = coupling.sets.simplify(component)
                if simplified is not None and len(simplified.axes) > 1:
                    axis = simplified.axes[-1] if coupling.heads == "dimension" else simplified.axes[0]
                    coupling.sets.resolve(simplified, axis)
                    changed = True


def build_groups(
    coupling: Coupling, parameters: dict[str, str]
) -> tuple[tuple[ChannelGroup, ...], dict[str, dict[int, AxisIndex]], dict[str, str]]:
    """Builds the groups after propagation.

    Arguments:
        coupling: the finished propagation.
        parameters: qualified name of each parameter or buffer, by value name.

    Returns:
        the groups; for each value, the index of each labelled axis; the reason for each frozen parameter axis.
    """
    settle_joint_components(coupling)
    sets = coupling.sets
    classes_of = sets.classes()
    frozen = sets.frozen_classes()
    count = int(classes_of.max()) + 1 if len(classes_of) else 0
    prunable = np.zeros(count, dtype=bool)
    for ids in coupling.sources:
        prunable[classes_of[ids]] = True
    prunable[list(frozen)] = False

    # One entry for each distinct label array; values that share it share the object.
    arrays: dict[tuple[int, tuple[int, ...]], NDArray[np.int64]] = {}
    axes: list[tuple[str, int, NDArray[np.int64]]] = []
    for value, components in coupling.values.items():
        for component in components:
            key = (id(component.ids), component.axes)
            if key not in arrays:
                simplified = component if len(component.axes) == 1 else sets.simplify(component)
                arrays[key] = (
                    classes_of[simplified.ids.reshape(-1)]
                    if simplified is not None and len(simplified.axes) == 1
                    else np.zeros(0, dtype=np.int64)
                )
            if len(component.axes) == 1:
                axes.append((value, component.axes[0], arrays[key]))
            else:
                simplified = sets.simplify(component)
                if simplified is not None and len(simplified.axes) == 1:
                    axes.append((value, simplified.axes[0], classes_of[simplified.ids]))

    # Atoms with the same multiplicity on the same axes have the same signature.
    random = np.random.default_rng(0)
    signature = np.zeros((count, 2), dtype=np.uint64)
    by_array: dict[int, NDArray[np.uint64]] = {}
    for value, axis, classes in axes:
        weight = random.integers(1, 2**63, size=2, dtype=np.uint64)
        if id(classes) not in by_array:
            by_array[id(classes)] = np.bincount(classes, minlength=count).astype(np.uint64)
        signature += by_array[id(classes)][:, None] * weight
    groups_by_signature: dict[tuple[int, int], list[int]] = {}
    order = _first_appearance(axes, parameters, count)
    for label_class in order:
        if prunable[label_class]:
            key2 = (int(signature[label_class, 0]), int(signature[label_class, 1]))
            groups_by_signature.setdefault(key2, []).append(int(label_class))

    group_of = np.full(count, -1, dtype=np.int64)
    atom_of = np.full(count, -1, dtype=np.int64)
    for index, members in enumerate(groups_by_signature.values()):
        group_of[members] = index
        atom_of[members] = np.arange(len(members))

    axis_index: dict[str, dict[int, AxisIndex]] = {}
    cache: dict[int, AxisIndex] = {}
    collected: list[list[Member]] = [[] for _ in groups_by_signature]
    for value, axis, classes in sorted(axes, key=lambda entry: entry[0] not in parameters):
        if id(classes) not in cache:
            cache[id(classes)] = _index_axis(classes, group_of, atom_of)
        index_of_axis = cache[id(classes)]
        axis_index.setdefault(value, {})[axis] = index_of_axis
        for group, _ in index_of_axis.counts:
            atoms = np.where(index_of_axis.groups == group, index_of_axis.atoms, -1)
            collected[group].append(Member(parameters.get(value, value), axis, value in parameters, atoms))
    groups = []
    names: dict[str, int] = {}
    for index, members in enumerate(groups_by_signature.values()):
        name = _name(collected[index], coupling, index)
        names[name] = names.get(name, 0) + 1
        if names[name] > 1:
            name = f"{name}#{names[name]}"
        groups.append(ChannelGroup(name, len(members), tuple(collected[index]), np.array(members)))
    reasons = _frozen_axes(axes, parameters, frozen, prunable)
    return tuple(groups), axis_index, reasons


def _first_appearance(
    axes: list[tuple[str, int, NDArray[np.int64]]], parameters: dict[str, str], count: int
) -> list[int]:
    seen: dict[int, None] = {}
    for value, _, classes in axes:
        if value in parameters:
            seen.update(dict.fromkeys(classes.tolist()))
    for _, _, classes in axes:
        if len(seen) == count:
            break
        seen.update(dict.fromkeys(classes.tolist()))
    return list(seen)


def _index_axis(classes: NDArray[np.int64], group_of: NDArray[np.int64], atom_of: NDArray[np.int64]) -> AxisIndex:
    groups, atoms = group_of[classes], atom_of[classes]
    counts = []
    for group in np.unique(groups):
        if group >= 0:
            here = groups == group
            counts.append((int(group), int(here.sum() // len(np.unique(atoms[here])))))
    return AxisIndex(classes, groups, atoms, tuple(counts), int((groups < 0).sum()))


def _name(members: list[Member], coupling: Coupling, index: int) -> str:
    producers = [member for member in members if member.is_parameter and member.axis == 0 and "weight" in member.tensor]
    producers = producers or [member for member in members if member.is_parameter] or members
    first = producers[0]
    if (first.atoms >= 0).all():
        return first.tensor
    positions = np.flatnonzero(first.atoms >= 0)
    return f"{first.tensor}[{positions[0]}:{positions[-1] + 1}]"


def _frozen_axes(
    axes: list[tuple[str, int, NDArray[np.int64]]],
    parameters: dict[str, str],
    frozen: dict[int, str],
    prunable: NDArray[np.bool_],
) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for value, axis, classes in axes:
        if value in parameters and axis == 0 and len(classes) and not prunable[classes].any():
            reason = frozen.get(int(classes[0]))
            if reason is not None:
                reasons[parameters[value]] = reason
    return reasons
