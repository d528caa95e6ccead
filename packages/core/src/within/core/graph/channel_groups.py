"""Channel groups: all (tensor, axis) that can only be cut together, with the index map of each.

An *atom* is an equivalence class of labels: the smallest set of positions that must go together (one channel, or one
channel in each group of a grouped convolution, or one dimension of every attention head). A *group* is the set of
atoms that occur equally often on exactly the same axes, so that its atoms are exchangeable and only their number
matters to every size in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component


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
    """

    name: str
    size: int
    members: tuple[Member, ...] = field(repr=False)

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
    """What one axis of one value is made of.

    Attributes:
        groups: index of the group of each position, -1 where the position is fixed.
        atoms: atom within the group of each position.
        counts: (group, positions that one atom of it occupies) of each group on the axis.
        fixed: how many positions are fixed.
    """

    groups: NDArray[np.int64]
    atoms: NDArray[np.int64]
    counts: tuple[tuple[int, int], ...]
    fixed: int

    def size(self, widths: NDArray[np.int64]) -> int:
        """Returns the length of the axis when group g keeps widths[g] atoms."""
        return self.fixed + sum(per_atom * int(widths[group]) for group, per_atom in self.counts)

    def kept(self, keep: list[NDArray[np.bool_]]) -> NDArray[np.int64]:
        """Returns the positions that stay when group g keeps the atoms keep[g]."""
        mask = np.ones(len(self.groups), dtype=bool)
        for group, _ in self.counts:
            here = self.groups == group
            mask[here] = keep[group][self.atoms[here]]
        return np.flatnonzero(mask)


@dataclass(frozen=True, eq=False)
class Grouping:
    """What the propagated labels amount to.

    Attributes:
        groups: all groups that may be cut, in order of first appearance among the parameters.
        axes: for each value, the index of each axis that carries channels.
        frozen: for each parameter whose first axis may not be cut, why.
    """

    groups: tuple[ChannelGroup, ...]
    axes: dict[str, dict[int, AxisIndex]]
    frozen: dict[str, str]


@dataclass(frozen=True, eq=False)
class _LabelledAxis:
    """One axis of one value; `array` is the number of its array of label classes (many axes share one)."""

    value: str
    axis: int
    array: int


def settle_joint_components(coupling: Coupling) -> None:
    """Makes every value rectangular: components still joint over several axes are resolved to one of them."""
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


def build_groups(coupling: Coupling, parameters: Mapping[str, str]) -> Grouping:
    """Builds the groups after propagation.

    Arguments:
        coupling: the finished propagation.
        parameters: qualified name of each parameter or buffer, by value name.
    """
    settle_joint_components(coupling)
    classes_of = coupling.sets.classes()
    reasons = coupling.sets.frozen_classes()
    count = int(classes_of.max()) + 1 if len(classes_of) else 0
    prunable = np.zeros(count, dtype=bool)
    for ids in coupling.sources:
        prunable[classes_of[ids]] = True
    prunable[list(reasons)] = False

    axes, arrays = _labelled_axes(coupling, classes_of)
    axes.sort(key=lambda entry: entry.value not in parameters)  # parameters first
    members_of = _exchangeable(axes, arrays, prunable)
    group_of = np.full(count, -1, dtype=np.int64)
    atom_of = np.full(count, -1, dtype=np.int64)
    for group, atoms in enumerate(members_of):
        group_of[atoms] = group
        atom_of[atoms] = np.arange(len(atoms))

    indices = [_index_axis(group_of[classes], atom_of[classes]) for classes in arrays]
    by_value: dict[str, dict[int, AxisIndex]] = {}
    collected: list[list[Member]] = [[] for _ in members_of]
    positions: dict[tuple[int, int], NDArray[np.int64]] = {}
    listed: set[tuple[str, int, int]] = set()
    for entry in axes:
        index = indices[entry.array]
        by_value.setdefault(entry.value, {})[entry.axis] = index
        for group, _ in index.counts:
            key = (entry.array, group)
            if key not in positions:
                positions[key] = np.where(index.groups == group, index.atoms, -1)
            name = parameters.get(entry.value, entry.value)
            if (name, entry.axis, group) not in listed:  # a tied parameter is one tensor
                listed.add((name, entry.axis, group))
                collected[group].append(Member(name, entry.axis, entry.value in parameters, positions[key]))
    names = _unique([_name(members) for members in collected])
    groups = tuple(
        ChannelGroup(name, len(atoms), tuple(members))
        for name, atoms, members in zip(names, members_of, collected, strict=True)
    )
    frozen = {}
    for entry in axes:
        classes = arrays[entry.array]
        if entry.value in parameters and entry.axis == 0 and len(classes) and not prunable[classes].any():
            reason = reasons.get(int(classes[0]))
            if reason is not None:
                frozen[parameters[entry.value]] = reason
    return Grouping(groups, by_value, frozen)


def _labelled_axes(
    coupling: Coupling, classes_of: NDArray[np.int64]
) -> tuple[list[_LabelledAxis], list[NDArray[np.int64]]]:
    """Returns every labelled axis, and the distinct arrays of label classes along them."""
    arrays: list[NDArray[np.int64]] = []
    by_component: dict[int, tuple[int, int] | None] = {}
    by_content: dict[bytes, int] = {}

    def read(component: Component) -> tuple[int, int] | None:
        one = component if len(component.axes) == 1 else coupling.sets.simplify(component)
        if one is None or len(one.axes) > 1:
            return None
        classes = classes_of[one.ids.reshape(-1)]
        number = by_content.setdefault(classes.tobytes(), len(arrays))
        if number == len(arrays):
            arrays.append(classes)
        return one.axes[0], number

    axes = []
    for value, components in coupling.values.items():
        for component in components:
            key = id(component)  # alive in coupling.values, so the number stays its own
            if key not in by_component:
                by_component[key] = read(component)
            found = by_component[key]
            if found is not None:
                axes.append(_LabelledAxis(value, *found))
    return axes, arrays


def _exchangeable(
    axes: list[_LabelledAxis], arrays: list[NDArray[np.int64]], prunable: NDArray[np.bool_]
) -> list[NDArray[np.int64]]:
    """Returns the prunable classes, those that occur equally often on exactly the same axes together.

    Two such classes have the same sum of (occurrences x a random 128-bit number an axis); others have not, but for a
    chance of 2^-128.
    """
    weight = np.random.default_rng(0).integers(1, 2**63, size=(len(axes), 2), dtype=np.uint64)
    of_array = np.zeros((len(arrays), 2), dtype=np.uint64)
    np.add.at(of_array, [entry.array for entry in axes], weight)
    signature = np.zeros((len(prunable), 2), dtype=np.uint64)
    for classes, sums in zip(arrays, of_array, strict=True):
        present, occurrences = np.unique(classes, return_counts=True)
        signature[present] += occurrences.astype(np.uint64)[:, None] * sums
    order: dict[int, None] = {}  # arrays are numbered by appearance of their axes, which list parameters first
    for number in dict.fromkeys(entry.array for entry in axes):
        order.update(dict.fromkeys(arrays[number].tolist()))
    together: dict[bytes, list[int]] = {}
    for label_class in order:
        if prunable[label_class]:
            together.setdefault(signature[label_class].tobytes(), []).append(label_class)
    return [np.array(classes, dtype=np.int64) for classes in together.values()]


def _index_axis(groups: NDArray[np.int64], atoms: NDArray[np.int64]) -> AxisIndex:
    present, positions = np.unique(groups, return_counts=True)
    counts = []
    for group, occupied in zip(present.tolist(), positions.tolist(), strict=True):
        if group >= 0:
            counts.append((group, occupied // len(np.unique(atoms[groups == group]))))
    return AxisIndex(groups, atoms, tuple(counts), int((groups < 0).sum()))


def _name(members: list[Member]) -> str:
    """Returns the first weight axis that produces the channels, with the range of positions when it is shared."""
    weights = [member for member in members if member.is_parameter and member.axis == 0 and "weight" in member.tensor]
    first = (weights or members)[0]
    if (first.atoms >= 0).all():
        return first.tensor
    positions = np.flatnonzero(first.atoms >= 0)
    return f"{first.tensor}[{positions[0]}:{positions[-1] + 1}]"


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return result
