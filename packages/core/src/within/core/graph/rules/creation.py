"""Tensors made from nothing: constant fills may have any number of channels, everything else is fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from within.core.graph.coupling import Coupling
from within.core.graph.operator import Operator
from within.core.graph.rules.table import rule

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite


def _resize_fill(rewrite: Rewrite, op: Operator) -> None:
    sizes = list(op["size"])
    new = rewrite.shape(op.node)
    for axis, size in enumerate(sizes):
        if isinstance(size, int) and new[axis] != op.shape[axis]:
            sizes[axis] = new[axis]
    rewrite.set(op, "size", sizes)


@rule("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", resize=_resize_fill)
def constant_fill(coupling: Coupling, op: Operator) -> None:
    """A constant tensor: every position of every axis is a channel of its own until it meets another tensor."""
    coupling.fresh(op.name, op.shape)


@rule("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like")
def constant_like(coupling: Coupling, op: Operator) -> None:
    """A tensor shaped as another."""
    coupling.values[op.name] = coupling.of(op["self"])


@rule("arange", "linspace", "scalar_tensor", "rand", "randn", "tensor", "eye", "tril_indices", "triu_indices")
def sequence(coupling: Coupling, op: Operator) -> None:
    """Sequences: their length is fixed."""


@rule("tril", "triu", "one_hot", "affine_grid_generator")
@rule("diagonal", "meshgrid", storage="view")
def fixed(coupling: Coupling, op: Operator) -> None:
    """Operators on index grids: their axes are fixed."""
    for node in op.tensors:
        coupling.freeze(node, f"{op.kind} fixes its axes")
