"""Tensors that an operator allocates and frees inside: they are in no edge of the graph, but they are in memory.

Most operators of the exported graph are one kernel. Some are not: a max pool makes indices that nobody reads, a matrix
product copies operands whose strides it cannot use. The rule of such an operator counts their bytes from shapes, or
asks for a dry run: the operator is run once on fake tensors under the storage counter, and what it holds beyond its
results is tied to the operand that has the same size, so that it shrinks with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor

from within.core.device.memory.storage import StorageCounter
from within.core.graph import Graph, Operator
from within.core.graph.operator import Shape
from within.core.graph.rules import rule_of

TransientBytes = Callable[[Callable[[fx.Node], Shape]], int]
"""Bytes inside one operator, from the shapes of its values."""

# One kernel each, when all operands are contiguous (and when the statistics of a batch normalisation are given).
PLAIN_WHEN_CONTIGUOUS = {"linear", "matmul", "bmm", "mm"}


def find_transients(graph: Graph) -> list[tuple[Operator, TransientBytes]]:
    """Returns the operators that allocate tensors inside, with their bytes as a function of shapes."""
    found: list[tuple[Operator, TransientBytes]] = []
    for op in graph.operators:
        rule = rule_of(op)
        if rule is None or rule.transient is None:
            continue
        if rule.transient == "derived":
            derived = _derive(op)
            if derived is not None:
                found.append((op, derived))
        else:
            found.append((op, _bound(rule.transient, op)))
    return found


def _bound(count: Callable[[Operator, Callable[[fx.Node], Shape]], int], op: Operator) -> TransientBytes:
    return lambda shape: count(op, shape)


def _derive(op: Operator) -> TransientBytes | None:
    if op.kind == "batch_norm" and not op["training"]:
        return None
    operands = [node.meta["val"] for node in op.tensors]
    if op.kind in PLAIN_WHEN_CONTIGUOUS and all(_plain(tensor, op.kind) for tensor in operands):
        return None
    extra = dry_run(op)
    if extra <= 0:
        return None
    results = [op.node] if isinstance(op.node.meta["val"], torch.Tensor) else []
    for node in [*op.tensors, *results]:
        tensor = node.meta["val"]
        if extra == tensor.numel() * tensor.element_size():
            return _as_large_as(node, tensor.element_size())
    return lambda _: extra


def _as_large_as(node: fx.Node, item_bytes: int) -> TransientBytes:
    return lambda shape: math.prod(shape(node)) * item_bytes


def _plain(tensor: torch.Tensor, kind: str) -> bool:
    """Whether a matrix product reads the tensor as it is: in rows, or in columns (a linear layer only in rows)."""
    return tensor.is_contiguous() or (kind != "linear" and tensor.dim() >= 2 and tensor.mT.is_contiguous())


def dry_run(op: Operator) -> int:
    """Runs an operator on fake tensors; returns the most bytes it holds at once beyond its inputs and results."""
    inputs = [node.meta["val"] for node in op.tensors]
    mode = next((tensor.fake_mode for tensor in inputs if isinstance(tensor, FakeTensor)), None)
    target = op.node.target
    if mode is None or not callable(target):
        return 0
    args, kwargs = fx.map_arg((op.node.args, op.node.kwargs), lambda node: node.meta["val"])
    counter = StorageCounter(inputs)
    with torch.no_grad(), mode, counter:
        result: Any = target(*args, **kwargs)
        held = counter.live
    del result
    return counter.peak - held
