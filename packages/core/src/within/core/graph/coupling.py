"""Which channels can only be removed together: labels propagated through the operators of a traced graph.

See `labels` for the idea. Each operator's rule (folder `rules`) moves and unites labels through the few verbs here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import fx

from within.core.graph.labels import Component, Components, Ids, LabelSets, component_at
from within.core.graph.operator import Operator, Shape, shape_of, tensor_of


class Coupling:
    """The state of one propagation: the components of every value, and the union-find behind them.

    Attributes:
        sets: the union-find over labels.
        values: components by node name; `name:i` for the outputs of an operator that has several.
        heads: what shrinks where attention splits channels into (heads, head dimension): "dimension" or "whole".
        grouped: what shrinks in a grouped convolution: channels "within" every group, or "whole" groups.
        sources: label arrays of axes that an operator produces channels on; only these may be offered for pruning.
        sensitive: operators whose result depends on which channels exist (statistics or means over channels), and why.
        mixing: operators that mix neighbouring channels by position; removed channels must count as zeros there.
        contracting: operators that sum over a channel axis of two activations; removed channels must not contribute.
    """

    def __init__(self, *, heads: str = "dimension", grouped: str = "within") -> None:
        self.sets = LabelSets()
        self.values: dict[str, Components] = {}
        self.heads = heads
        self.grouped = grouped
        self.sources: list[Ids] = []
        self.sensitive: dict[str, str] = {}
        self.mixing: set[str] = set()
        self.contracting: set[str] = set()

    # ---- reading and writing values

    def of(self, node: Any) -> Components:
        """Returns the components of a tensor argument (none for numbers and unlabelled tensors)."""
        return self.values.get(node.name, ()) if isinstance(node, fx.Node) else ()

    def put(self, op: Operator, components: Sequence[Component | None], output: int | None = None) -> None:
        """Sets the components of an operator's output; an axis of length one is no channel axis and must stay."""
        name = op.name if output is None else f"{op.name}:{output}"
        kept: list[Component] = []
        for component in components:
            if component is None:
                continue
            long = [position for position, size in enumerate(component.ids.shape) if size > 1]
            if not long:
                self.sets.freeze(component.ids, "a single channel is taken out")
            elif len(long) == len(component.axes):
                kept.append(component)
            else:
                index = tuple(slice(None) if position in long else 0 for position in range(len(component.axes)))
                kept.append(Component(tuple(component.axes[position] for position in long), component.ids[index]))
        self.values[name] = tuple(kept)

    def fresh(self, name: str, shape: Shape) -> None:
        """Gives a tensor one fresh label a position on each axis longer than one."""
        self.values[name] = tuple(
            Component((axis,), self.sets.fresh(size)) for axis, size in enumerate(shape) if size > 1
        )

    # ---- verbs

    def along(self, node: fx.Node, axis: int) -> Ids | None:
        """Returns the labels along `axis`, resolving a joint component to it; None when the axis is fixed."""
        found = component_at(self.of(node), axis)
        if found is None:
            return None
        if found.axes != (axis,):
            resolved = self.sets.resolve(found, axis)
            self.replace(node, found, resolved)
            if resolved is None:
                return None
            found = resolved
        return found.ids

    def replace(self, node: fx.Node, old: Component, new: Component | None) -> None:
        """Replaces one component of a value."""
        kept = tuple(component for component in self.of(node) if component is not old)
        self.values[node.name] = (*kept, new) if new is not None else kept

    def unite(self, first: Ids | None, second: Ids | None, reason: str) -> Ids | None:
        """Unites two label arrays; when one side is fixed (None) the other is frozen. Returns what is left."""
        if first is None or second is None:
            for ids in (first, second):
                if ids is not None:
                    self.sets.freeze(ids, reason)
            return None
        self.sets.union(first, second)
        return first

    def freeze(self, node: Any, reason: str, axes: Iterable[int] | None = None) -> None:
        """Freezes the labels of a tensor, all or those that touch `axes`."""
        axes = None if axes is None else set(axes)
        for component in self.of(node):
            if axes is None or axes & set(component.axes):
                self.sets.freeze(component.ids, reason)

    def source(self, ids: Ids | None) -> None:
        """Marks labels as channels that an operator produces."""
        if ids is not None:
            self.sources.append(ids)

    def broadcast(self, nodes: Sequence[Any], output_shape: Shape, reason: str) -> Components:
        """Unites the labels of broadcast operands and returns the components of the result."""
        rank = len(output_shape)
        operands: list[tuple[Shape, Components]] = []
        for node in nodes:
            if isinstance(node, fx.Node) and tensor_of(node) is not None:
                shape = shape_of(node)
                shift = rank - len(shape)
                components = tuple(component.shifted(shift) for component in self.of(node))
                operands.append(((1,) * shift + shape, components))
        result: list[Component] = []
        for _, components in operands:
            for component in components:
                result = self._merge(result, component)
        # An operand that is long but unlabelled along a labelled axis fixes the labels there.
        for shape, components in operands:
            covered = {axis for component in components for axis in component.axes}
            for component in list(result):
                bare = [axis for axis in component.axes if shape[axis] > 1 and axis not in covered]
                if bare:
                    self.sets.freeze(component.ids, reason)
                    result.remove(component)
        return tuple(result)

    def _merge(self, result: list[Component], component: Component) -> list[Component]:
        overlapping = [other for other in result if set(other.axes) & set(component.axes)]
        if not overlapping:
            return [*result, component]
        if len(overlapping) == 1 and overlapping[0].axes == component.axes:
            other = overlapping[0]
            if other.ids.shape == component.ids.shape:
                self.sets.union(other.ids, component.ids)
                return result
        axes = tuple(sorted({axis for item in [*overlapping, component] for axis in item.axes}))
        arrays = []
        for item in [*overlapping, component]:
            index = tuple(slice(None) if axis in item.axes else None for axis in axes)
            arrays.append(item.ids[index])
        full = np.broadcast_arrays(*arrays)
        for other_ids in full[1:]:
            self.sets.union(full[0], other_ids)
        merged = Component(axes, np.ascontiguousarray(full[0]))
        simplified = self.sets.simplify(merged)
        kept = [other for other in result if other not in overlapping]
        return kept if simplified is None else [*kept, simplified]
