"""Reductions and matrix products: local only along axes that do not run along the image."""

from __future__ import annotations

from within.core.graph.operator import Operator, integer, shape_of
from within.lowlevel.receptive_field.reach import Walk
from within.lowlevel.receptive_field.table import rule, unknown, whole_image


@rule("mean", "sum", "amax", "amin", "std", "var", "var_mean", "std_mean", "prod", "logsumexp", "argmax", "argmin")
@rule("any", "all", "norm", "linalg_vector_norm", "median", "nanmean", "nansum", "count_nonzero")
def reduce(walk: Walk, op: Operator) -> None:
    layout = walk.of(op.tensors[0])
    dim = op.get("dim")
    dims = dim if isinstance(dim, (list, tuple)) and dim else range(len(layout)) if dim in (None, [], ()) else [dim]
    axes = [integer(axis) % len(layout) for axis in dims]
    whole_image(walk, op, op.tensors[0], axes, "reduced over the whole image")
    if op.get("keepdim"):
        walk.put_all(op, [None if axis in axes else tag for axis, tag in enumerate(layout)])
    else:
        walk.put_all(op, [tag for axis, tag in enumerate(layout) if axis not in axes])


@rule("matmul", "bmm", "mm")
def _product(walk: Walk, op: Operator) -> None:
    left, right = op.tensors[:2]
    if min(len(shape_of(left)), len(shape_of(right))) < 2:
        unknown(walk, op)
        return
    whole_image(walk, op, left, [-1], "attention over the whole image")
    whole_image(walk, op, right, [-2], "attention over the whole image")
    batch = walk.of(left)[:-2] if len(shape_of(left)) >= len(shape_of(right)) else walk.of(right)[:-2]
    walk.put(op, [*batch, walk.of(left)[-2], walk.of(right)[-1]])


@rule("linear")
def _linear(walk: Walk, op: Operator) -> None:
    whole_image(walk, op, op["input"], [-1], "a linear layer over the whole image")
    walk.put(op, [*walk.of(op["input"])[:-1], None])


@rule("scaled_dot_product_attention")
def _attention(walk: Walk, op: Operator) -> None:
    for name in ("query", "key", "value"):
        whole_image(walk, op, op[name], [-1, -2], "attention over the whole image")
    walk.put(op, walk.of(op["query"]))
