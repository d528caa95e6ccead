"""Matrix products and attention: the contracted axis couples both operands, head axes shrink by policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import fx

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component, Ids
from within.core.graph.operator import Operator, integer, shape_of
from within.core.graph.rules.table import ShapeOf, rule

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite


def matmul_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """Output elements x contracted length (parameters or activations alike); nothing in `thop_2019`."""
    if convention == "thop_2019":
        return 0
    left = op.tensors[-2]
    return math.prod(shape(op.node)) * shape(left)[-1]


def _settle(coupling: Coupling, node: fx.Node, matrix_axes: tuple[int, ...]) -> None:
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


def _product(coupling: Coupling, op: Operator, left: fx.Node, right: fx.Node) -> None:
    """Couples out[b.., i, j] = sum_k left[b.., i, k] right[b.., k, j]."""
    rank = len(op.shape)
    left_rank, right_rank = len(shape_of(left)), len(shape_of(right))
    _settle(coupling, left, (left_rank - 2, left_rank - 1))
    _settle(coupling, right, (right_rank - 2, right_rank - 1))
    contracted = coupling.along(left, left_rank - 1), coupling.along(right, right_rank - 2)
    coupling.unite(*contracted, "contracted with a fixed axis")
    coupling.contracting.add(op.name)
    components = []
    rows, columns = coupling.along(left, left_rank - 2), coupling.along(right, right_rank - 1)
    for axis, ids in ((rank - 2, rows), (rank - 1, columns)):
        if ids is not None:
            components.append(Component((axis,), ids))
            coupling.source(ids)
    # Batch axes (heads): united between the operands.
    batch: dict[int, list[tuple[int, Ids | None]]] = {}
    for node, node_rank in ((left, left_rank), (right, right_rank)):
        for axis in range(node_rank - 2):
            batch.setdefault(axis - (node_rank - 2), []).append((shape_of(node)[axis], coupling.along(node, axis)))
    for offset, entries in batch.items():
        long = [(size, ids) for size, ids in entries if size > 1]
        ids = long[0][1] if long else None
        for _, other in long[1:]:
            ids = coupling.unite(ids, other, "batched product with a fixed axis")
        if ids is not None:
            components.append(Component((rank - 2 + offset,), ids))
    coupling.put(op, components)


@rule("matmul", "bmm", "mm", macs=matmul_macs, transient="derived")
def matmul(coupling: Coupling, op: Operator) -> None:
    """Matrix product of the last two axes; leading axes are batch axes."""
    left, right = op.tensors[0], op.tensors[1]
    if len(shape_of(left)) < 2 or len(shape_of(right)) < 2:
        for node in (left, right):
            coupling.freeze(node, "product with a vector")
        return
    _product(coupling, op, left, right)


@rule("addmm", "baddbmm", macs=matmul_macs)
def addmm(coupling: Coupling, op: Operator) -> None:
    """input + left @ right."""
    bias, left, right = op.tensors
    _product(coupling, op, left, right)
    coupling.put(op, coupling.broadcast([op.node, bias], op.shape, "bias of fixed channels"))


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


@rule("scaled_dot_product_attention", macs=attention_macs, resize=_resize_attention, transient="derived")
def scaled_dot_product_attention(coupling: Coupling, op: Operator) -> None:
    """softmax(q k^T s) v: the head dimensions of q and k shrink together, that of v on its own."""
    query, key, value = op["query"], op["key"], op["value"]
    rank = len(op.shape)
    for node in (query, key, value):
        _settle(coupling, node, (rank - 2, rank - 1))
        coupling.freeze(node, "tokens of an attention", [rank - 2])
    coupling.unite(coupling.along(query, rank - 1), coupling.along(key, rank - 1), "query or key of fixed width")
    coupling.contracting.add(op.name)
    components = []
    width = coupling.along(value, rank - 1)
    if width is not None:
        components.append(Component((rank - 1,), width))
    heads = _heads(coupling, op) if rank > 3 else None
    if heads is not None:
        components.append(Component((rank - 3,), heads))
    for node in (query, key, value):
        coupling.freeze(node, "batch axes of an attention", range(max(rank - 3, 0)))
    mask = op.get("attn_mask")
    if mask is not None:
        mask_rank = len(shape_of(mask))
        coupling.freeze(mask, "attention mask", set(range(mask_rank)) - {mask_rank - 3})
    coupling.put(op, components)


def _heads(coupling: Coupling, op: Operator) -> Ids | None:
    """Unites the head axes of query, key, value and mask (an operand with one head serves all)."""
    nodes = [op["query"], op["key"], op["value"]]
    if op.get("attn_mask") is not None:
        nodes.append(op["attn_mask"])
    entries = []
    for node in nodes:
        axis = len(shape_of(node)) - 3
        if axis >= 0 and shape_of(node)[axis] > 1:
            entries.append(coupling.along(node, axis))
    if len({len(ids) for ids in entries if ids is not None}) > 1 or any(ids is None for ids in entries):
        for ids in entries:
            if ids is not None:
                coupling.sets.freeze(ids, "query, key, value and mask have different heads")
        return None
    for ids in entries[1:]:
        coupling.unite(entries[0], ids, "heads")
    return entries[0] if entries else None


def einsum_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """The operands are multiplied from the left, each product over all index lengths; nothing in `thop_2019`."""
    operands, result = _letters(op)
    if convention == "thop_2019":
        return 0
    lengths: dict[str, int] = {}
    for letters, node in zip(operands, op["tensors"], strict=True):
        for letter, size in zip(letters, shape(node), strict=True):
            lengths[letter] = max(size, lengths.get(letter, 1))
    total, current = 0, set(operands[0])
    for position, letters in enumerate(operands[1:], start=1):
        current |= set(letters)
        total += math.prod(lengths[letter] for letter in current)
        current &= set(result).union(*operands[position + 1 :])
    return total


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


@rule("einsum", macs=einsum_macs, storage="maybe_view", transient="derived")
def einsum(coupling: Coupling, op: Operator) -> None:
    """Every letter is one axis: positions of equal letters are one channel, letters not in the result end it."""
    operands, result = _letters(op)
    coupling.contracting.add(op.name)
    by_letter: dict[str, list[tuple[int, Ids | None]]] = {}
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
    components = coupling.broadcast([op["x1"], op["x2"]], shape_of(op["x1"]), "cosine similarity")
    coupling.sensitive[op.name] = "reduced over channels"
    coupling.put(op, [item.moved([a - (a > axis) for a in item.axes]) for item in components if axis not in item.axes])
