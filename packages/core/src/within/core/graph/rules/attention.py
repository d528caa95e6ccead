"""Matrix products and attention: the contracted axis couples both operands, head axes shrink by policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component
from within.core.graph.operator import Operator, integer, shape_of
from within.core.graph.rules.table import ShapeOf, rule

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite


def matmul_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """Output elements x contracted length (parameters or activations alike); nothing in `thop_2019`."""
    if convention == "thop_2019":
        return 0
    left = [node for node in op.tensors][-2:]
    return math.prod(shape(op.node)) * shape(left[0])[-1]


def _settle(coupling: Coupling, node, matrix_axes: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    """Resolves components joint over batch and matrix axes: head dimensions shrink, or whole heads."""
    for item in list(coupling.of(node)):
        if len(item.axes) == 1:
            continue
        simplified = coupling.sets.simplify(item)
        if simplified is None or len(simplified.axes) == 1:
            coupling.replace(node, item, simplified)
            continue
        inside = [axis for axis in simplified.axes if axis in matrix_axes]
        outside = [axis for axis in simplified.axes if axis not in matrix_axes]
        axis = inside[-1] if inside and (coupling.heads == "dimension" or not outside) else outside[-1]
        coupling.replace(node, item, coupling.sets.resolve(simplified, axis))


def _product(coupling: Coupling, op: Operator, left, right, left_axes, right_axes) -> list[Component]:  # type: ignore[no-untyped-def]
    """Couples out[b.., i, j] = sum_k left[b.., i, k] right[b.., k, j] for given (row, contracted) / (contracted, column)."""
    rank = len(op.shape)
    left_rank, right_rank = len(shape_of(left)), len(shape_of(right))
    row, inner_left = left_axes
    inner_right, column = right_axes
    _settle(coupling, left, (row, inner_left))
    _settle(coupling, right, (inner_right, column))
    coupling.unite(coupling.along(left, inner_left), coupling.along(right, inner_right), "contracted with a fixed axis")
    components = []
    rows = coupling.along(left, row) if row >= 0 else None
    columns = coupling.along(right, column) if column >= 0 else None
    if rows is not None:
        components.append(Component((rank - 2,), rows))
    if columns is not None:
        components.append(Component((rank - 1,), columns))
        coupling.source(columns)
    if rows is not None:
        coupling.source(rows)
    # Batch axes (heads): united between the operands.
    batch = {}
    for node, node_rank, own in ((left, left_rank, (row, inner_left)), (right, right_rank, (inner_right, column))):
        for axis in range(node_rank - 2):
            if axis in own:
                continue
            batch.setdefault(axis - (node_rank - 2), []).append((shape_of(node)[axis], coupling.along(node, axis)))
    for offset, entries in batch.items():
        long = [(size, ids) for size, ids in entries if size > 1]
        ids = long[0][1] if long else None
        for _, other in long[1:]:
            ids = coupling.unite(ids, other, "batched product with a fixed axis")
        if ids is not None:
            components.append(Component((rank - 2 + offset,), ids))
    return components


@rule("matmul", "bmm", "mm", macs=matmul_macs)
def matmul(coupling: Coupling, op: Operator) -> None:
    """Matrix product of the last two axes; leading axes are batch axes."""
    left, right = op.tensors[0], op.tensors[1]
    left_rank, right_rank = len(shape_of(left)), len(shape_of(right))
    if left_rank < 2 or right_rank < 2:
        for node in (left, right):
            coupling.freeze(node, "product with a vector")
        return
    coupling.put(
        op, _product(coupling, op, left, right, (left_rank - 2, left_rank - 1), (right_rank - 2, right_rank - 1))
    )


@rule("addmm", "baddbmm", macs=matmul_macs)
def addmm(coupling: Coupling, op: Operator) -> None:
    """input + left @ right."""
    left, right = op.tensors[1], op.tensors[2]
    rank = len(shape_of(left))
    product = _product(coupling, op, left, right, (rank - 2, rank - 1), (rank - 2, rank - 1))
    coupling.put(op, product)
    bias = op.tensors[0]
    last = len(shape_of(bias)) - 1
    ids = coupling.along(op.node, rank - 1)
    coupling.unite(ids, coupling.along(bias, last), "bias of fixed channels")


def attention_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """Two products: query x key and weights x value."""
    if convention == "thop_2019":
        return 0
    query, key, value = (shape(op[name]) for name in ("query", "key", "value"))
    scores = math.prod(query[:-1]) * key[-2]
    return scores * query[-1] + scores * value[-1]


def _resize_attention(rewrite: Rewrite, op: Operator) -> None:
    width = shape_of(op["query"])[-1]
    if op.get("scale") is None and rewrite.shape(op["query"])[-1] != width:
        rewrite.set(op, "scale", 1.0 / math.sqrt(width))  # the scale the model was trained with


@rule("scaled_dot_product_attention", macs=attention_macs, resize=_resize_attention)
def scaled_dot_product_attention(coupling: Coupling, op: Operator) -> None:
    """softmax(q k^T s) v: the head dimensions of q and k shrink together, that of v on its own."""
    query, key, value = op["query"], op["key"], op["value"]
    rank = len(op.shape)
    for node in (query, key, value):
        _settle(coupling, node, (rank - 2, rank - 1))
        coupling.freeze(node, "tokens of an attention", [rank - 2])
    coupling.unite(coupling.along(query, rank - 1), coupling.along(key, rank - 1), "query or key of fixed width")
    if op.get("attn_mask") is not None:
        coupling.freeze(op["attn_mask"], "attention mask")
    components = []
    width = coupling.along(value, rank - 1)
    if width is not None:
        components.append(Component((rank - 1,), width))
    heads = [coupling.along(node, rank - 3) for node in (query, key, value)] if rank > 3 else []
    if heads and all(ids is not None for ids in heads) and len({len(ids) for ids in heads if ids is not None}) == 1:
        for ids in heads[1:]:
            coupling.unite(heads[0], ids, "heads")
        components.append(Component((rank - 3,), heads[0]))  # type: ignore[arg-type]
    else:
        for ids in heads:
            if ids is not None:
                coupling.sets.freeze(ids, "query, key and value have different heads")
    coupling.put(op, components)


def einsum_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """The product of all index lengths (two operands); nothing in `thop_2019`."""
    operands, _ = _letters(op)
    if convention == "thop_2019" or len(operands) != 2:
        return 0
    lengths: dict[str, int] = {}
    for letters, node in zip(operands, op["tensors"], strict=True):
        lengths |= {
            letter: max(size, lengths.get(letter, 1)) for letter, size in zip(letters, shape(node), strict=True)
        }
    return math.prod(lengths.values())


def _letters(op: Operator) -> tuple[list[str], str]:
    equation = op["equation"].replace(" ", "")
    left, _, result = equation.partition("->")
    operands = left.split(",")
    if "..." in equation:
        extra = "".join(chr(ord("A") + i) for i in range(8))
        rank = max(
            len(shape_of(node)) - len(letters.replace("...", "")) for letters, node in zip(operands, op["tensors"])
        )
        expanded = []
        for letters, node in zip(operands, op["tensors"], strict=True):
            own = len(shape_of(node)) - len(letters.replace("...", ""))
            expanded.append(letters.replace("...", extra[rank - own : rank]))
        return expanded, result.replace("...", extra[:rank])
    if not result and "->" not in equation:
        counts = "".join(operands)
        result = "".join(sorted(letter for letter in set(counts) if counts.count(letter) == 1))
    return operands, result


@rule("einsum", macs=einsum_macs)
def einsum(coupling: Coupling, op: Operator) -> None:
    """Every letter is one axis: positions of equal letters are one channel, letters not in the result end it."""
    operands, result = _letters(op)
    by_letter: dict[str, list[tuple[int, np.ndarray | None]]] = {}
    for letters, node in zip(operands, op["tensors"], strict=True):
        contracted = tuple(i for i, letter in enumerate(letters) if letter not in result)
        for item in list(coupling.of(node)):
            if len(item.axes) > 1:
                inside = [axis for axis in item.axes if axis in contracted]
                outside = [axis for axis in item.axes if axis not in contracted]
                last = (inside or outside)[-1] if coupling.heads == "dimension" else (outside or inside)[0]
                coupling.replace(node, item, coupling.sets.resolve(item, last))
        for axis, letter in enumerate(letters):
            by_letter.setdefault(letter, []).append((shape_of(node)[axis], coupling.along(node, axis)))
    components = []
    for letter, entries in by_letter.items():
        long = [ids for size, ids in entries if size > 1]
        if not long:
            continue
        ids = long[0]
        for other in long[1:]:
            ids = coupling.unite(ids, other, "einsum with a fixed axis")
        if ids is not None and letter in result:
            components.append(Component((result.index(letter),), ids))
            coupling.source(ids)
    coupling.put(op, components)


@rule("cosine_similarity")
def cosine_similarity(coupling: Coupling, op: Operator) -> None:
    """Contracts one axis of two tensors."""
    axis = integer(op["dim"]) % len(shape_of(op["x1"]))
    components = coupling.broadcast(op, [op["x1"], op["x2"]], shape_of(op["x1"]), "cosine similarity")
    coupling.note_sensitive(op, "reduced over channels")
    coupling.put(op, [item.moved([a - (a > axis) for a in item.axes]) for item in components if axis not in item.axes])
