"""Channel labels: integer arrays that say which channel each position of a tensor belongs to.

Every axis of every parameter starts with one fresh label a position. Operators move labels (concatenation appends,
flatten repeats, transposition permutes) or declare two labels to be the same channel (residual addition). What is
left at the end, an equivalence class of labels, is the smallest set of positions that can only be removed together.

A tensor carries *components*. A component is an array of labels over some of the tensor's axes; an axis belongs to at
most one component. A component over several axes, e.g. (heads, head dimension) after a reshape, is *joint*: removing
one of its labels would leave a hole, so it has to be *resolved* to one axis before anything is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Component:
    """Labels over the axes `axes` (ascending) of a tensor; `ids` has one dimension an axis."""

    axes: tuple[int, ...]
    ids: Ids

    def moved(self, axes: Sequence[int]) -> Component:
        """Returns the component with its axes renamed, and its array transposed to keep them ascending."""
        order = sorted(range(len(axes)), key=lambda position: axes[position])
        ids = self.ids if order == list(range(len(axes))) else self.ids.transpose(order)
        return Component(tuple(axes[position] for position in order), ids)

    def shifted(self, by: int) -> Component:
        """Returns the component on axes moved by `by`."""
        return Component(tuple(axis + by for axis in self.axes), self.ids)


Components = tuple[Component, ...]


class LabelSets:
    """Union-find over labels, with a set of frozen labels that must never be removed.

    Unions are collected and merged in bulk when a class is asked for.
    """

    def __init__(self) -> None:
        self._count = 0
        self._class = np.zeros(0, dtype=np.int64)
        self._pending: list[tuple[Ids, Ids]] = []
        self._frozen: list[tuple[Ids, str]] = []

    def __len__(self) -> int:
        return self._count

    def fresh(self, count: int) -> Ids:
        """Returns `count` new labels."""
        labels = np.arange(self._count, self._count + count, dtype=np.int64)
        self._count += count
        return labels

    def union(self, first: Ids, second: Ids) -> None:
        """Declares that labels at the same position of two arrays of equal shape are one channel."""
        if first is second:
            return
        first, second = np.broadcast_arrays(first, second)
        self._pending.append((first.ravel(), second.ravel()))

    def freeze(self, ids: Ids, reason: str) -> None:
        """Declares that labels must stay, and why."""
        self._frozen.append((ids.ravel(), reason))

    def classes(self) -> Ids:
        """Returns the class of every label; classes are numbered from 0."""
        if len(self._class) < self._count:
            start = int(self._class.max()) + 1 if len(self._class) else 0
            added = np.arange(start, start + self._count - len(self._class), dtype=np.int64)
            self._class = np.concatenate([self._class, added])
        if self._pending:
            first = self._class[np.concatenate([pair[0] for pair in self._pending])]
            second = self._class[np.concatenate([pair[1] for pair in self._pending])]
            self._pending.clear()
            differ = first != second
            if differ.any():
                size = int(self._class.max()) + 1
                links = coo_matrix(
                    (np.ones(int(differ.sum()), dtype=np.int8), (first[differ], second[differ])), shape=(size, size)
                )
                _, component = connected_components(links, directed=False)
                self._class = component.astype(np.int64)[self._class]
        return self._class

    def find(self, ids: Ids) -> Ids:
        """Returns the classes of the labels `ids`."""
        return self.classes()[ids]

    def frozen_classes(self) -> dict[int, str]:
        """Returns the class of each frozen label and the first reason given for it."""
        reasons: dict[int, str] = {}
        for ids, reason in self._frozen:
            for label_class in set(self.find(ids).tolist()):
                reasons.setdefault(label_class, reason)
        return reasons

    def simplify(self, component: Component) -> Component | None:
        """Drops the axes along which a component no longer varies.

        Returns None, and freezes the labels, when only one class is left: removing it would remove the whole tensor.
        """
        classes = self.find(component.ids)
        keep = []
        for position, axis in enumerate(component.axes):
            if classes.shape[position] > 1 and (classes != classes.take([0], axis=position)).any():
                keep.append((position, axis))
        if len(keep) == len(component.axes):
            return component
        if not keep:
            self.freeze(component.ids, "removing it would remove a whole tensor")
            return None
        index = tuple(
            slice(None) if any(position == kept for kept, _ in keep) else 0 for position in range(len(component.axes))
        )
        return Component(tuple(axis for _, axis in keep), component.ids[index])

    def resolve(self, component: Component, axis: int) -> Component | None:
        """Makes a component vary along `axis` only, by uniting its labels along its other axes."""
        if component.axes == (axis,):
            return component
        if axis not in component.axes:
            self.freeze(component.ids, "channels lie along an axis that the operator cannot shrink")
            return None
        position = component.axes.index(axis)
        first = tuple(slice(None) if other == position else slice(0, 1) for other in range(len(component.axes)))
        self.union(component.ids, component.ids[first])
        return Component((axis,), np.ascontiguousarray(component.ids[first]).reshape(-1))


def component_at(components: Iterable[Component], axis: int) -> Component | None:
    """Returns the component that covers `axis`, if any."""
    for component in components:
        if axis in component.axes:
            return component
    return None


def without_axes(components: Iterable[Component], axes: Iterable[int]) -> Components:
    """Returns the components that touch none of `axes`."""
    gone = set(axes)
    return tuple(component for component in components if not gone & set(component.axes))


def reshape_blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Splits a reshape into the smallest independent blocks of axes: [(old axes, new axes), ...] of equal product."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [], []
        a = b = 1
        if i < len(old):
            left.append(i)
            a, i = a * old[i], i + 1
        if j < len(new):
            right.append(j)
            b, j = b * new[j], j + 1
        while a != b:
            if a < b and i < len(old):
                left.append(i)
                a, i = a * old[i], i + 1
            elif j < len(new):
                right.append(j)
                b, j = b * new[j], j + 1
            else:
                left.append(i)
                a, i = a * old[i], i + 1
        blocks.append((left, right))
    return blocks


def reshape_components(components: Components, old: Sequence[int], new: Sequence[int], sets: LabelSets) -> Components:
    """Carries components through `reshape(old -> new)`, numerically, block by block."""
    blocks = reshape_blocks(old, new)
    result: list[Component] = []
    # The largest component first: where a reshape merges two channel axes, the smaller one is fixed.
    for component in sorted(components, key=lambda item: -item.ids.size):
        left: list[int] = []
        right: list[int] = []
        for block_left, block_right in blocks:
            if set(block_left) & set(component.axes):
                left += block_left
                right += block_right
        sizes = [old[axis] for axis in left]
        index = tuple(slice(None) if axis in component.axes else None for axis in left)
        full = np.broadcast_to(component.ids[index], sizes).reshape([new[axis] for axis in right])
        moved = drop_constant_axes(Component(tuple(right), full))
        if any(set(other.axes) & set(moved.axes) for other in result):
            sets.freeze(component.ids, "two channel axes are merged into one by a reshape")
        else:
            result.append(moved)
    return tuple(result)


def drop_constant_axes(component: Component) -> Component:
    """Removes axes along which the labels do not vary at all (at least one axis stays)."""
    keep = [
        position
        for position, size in enumerate(component.ids.shape)
        if size > 1 and (component.ids != component.ids.take([0], axis=position)).any()
    ]
    if len(keep) == len(component.axes):
        return component
    if not keep:
        keep = [int(np.argmax(component.ids.shape))]
    index = tuple(slice(None) if position in keep else 0 for position in range(len(component.axes)))
    return Component(tuple(component.axes[position] for position in keep), np.ascontiguousarray(component.ids[index]))
