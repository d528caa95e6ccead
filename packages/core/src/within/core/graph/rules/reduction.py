"""Reductions: along a channel axis they end the group; along other axes channels pass."""

from __future__ import annotations

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component
from within.core.graph.operator import Operator, integer, shape_of
from within.core.graph.rules.table import rule


def _axes(op: Operator) -> list[int]:
    rank = len(shape_of(op["self"]))
    dim = op.get("dim")
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return list(range(rank))
    dims = dim if isinstance(dim, (list, tuple)) else [dim]
    return [integer(axis) % max(rank, 1) for axis in dims]


def _numbers_positions(op: Operator) -> bool:
    """Whether the result is the number of a position, and somebody reads it."""
    if op.kind in ("argmax", "argmin"):
        return True
    reads = [user for user in op.node.users if user.users and len(op.shapes) == 2 and user.args[1:] == (1,)]
    return op.kind in ("max", "min", "median") and bool(reads)


def reduce(coupling: Coupling, op: Operator) -> None:
    """Reduces along axes; labels joint with a reduced axis are united along it."""
    axes = _axes(op)
    keep = bool(op.get("keepdim", False))
    components: list[Component] = []
    for item in list(coupling.of(op["self"])):
        reduced = [axis for axis in item.axes if axis in axes]
        left = [axis for axis in item.axes if axis not in axes]
        if not reduced:
            components.append(item)
        elif not left:
            if _numbers_positions(op):
                coupling.sets.freeze(item.ids, f"{op.kind} tells the numbers of channels")
            coupling.sensitive[op.name] = "reduced over channels"
        else:
            first = tuple(slice(0, 1) if axis in reduced else slice(None) for axis in item.axes)
            coupling.sets.union(item.ids, item.ids[first])
            index = tuple(0 if axis in reduced else slice(None) for axis in item.axes)
            components.append(Component(tuple(left), item.ids[index]))
    if not keep:
        components = [
            item.moved([axis - sum(gone < axis for gone in axes) for axis in item.axes]) for item in components
        ]
    outputs = len(op.shapes)
    if outputs == 1 and not isinstance(op.node.meta.get("val"), (tuple, list)):
        coupling.put(op, components)
    else:
        for output in range(outputs):
            coupling.put(op, components, output)


@rule("mean", "sum", "amax", "amin", "std", "var", "var_mean", "std_mean", "prod", "logsumexp", "argmax", "argmin")
@rule("any", "all", "norm", "linalg_vector_norm", "median", "nanmean", "nansum", "count_nonzero", "topk", "sort")
def reduction(coupling: Coupling, op: Operator) -> None:
    """A reduction along given axes, or over everything."""
    if op.kind in ("topk", "sort"):
        axis = op.axis()
        coupling.freeze(op["self"], f"{op.kind} along a channel axis", [axis])
        components = [item for item in coupling.of(op["self"]) if axis not in item.axes]
        for output in range(2):
            coupling.put(op, components, output)
        return
    reduce(coupling, op)
