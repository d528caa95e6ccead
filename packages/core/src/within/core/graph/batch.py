"""Opens the batch of a trace that fixed it, by comparing the traces of two batch sizes.

A `forward` that turns a size into a Python number (`int(x.shape[0] / windows)`) makes `torch.export` fix the batch at
that of the example. Where the operators of the traces at batches p and q are the same and every number n(p), n(q) that
differs is proportional to the batch, n(p) / p = n(q) / q = k, it is replaced by k times the batch of the input.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

Inputs = tuple[Any, ...]
Export = Callable[[Inputs], torch.export.ExportedProgram]


def batch_of(inputs: Inputs) -> int:
    """Returns the length of the first axis of the first tensor, 0 where there is none."""
    return next((int(item.shape[0]) for item in inputs if isinstance(item, torch.Tensor) and item.dim()), 0)


def with_batch(inputs: Inputs, size: int) -> Inputs:
    """Returns inputs of another batch size: what has the batch of the first tensor gets its first item repeated."""
    batch = batch_of(inputs)
    return tuple(
        item[:1].repeat_interleave(size, 0) if isinstance(item, torch.Tensor) and has_batch(item, batch) else item
        for item in inputs
    )


def has_batch(value: object, batch: int) -> bool:
    """Whether the first axis of a tensor is as long as the batch."""
    return isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] == batch > 0


def open_batch(export: Export, inputs: Inputs, sizes: tuple[int, int] = (2, 3)) -> torch.export.ExportedProgram | None:
    """Returns a program for any batch (its example has the first of `sizes`); None where the two traces differ more.

    Arguments:
        export: traces the model at given inputs, with fixed sizes; what it raises passes through.
        inputs: example inputs.
        sizes: two batch sizes, none of them one (torch treats axes of one apart).
    """
    first, second = (export(with_batch(inputs, size)) for size in sizes)
    numbers = _differences(first.graph_module.graph, second.graph_module.graph, *sizes)
    if numbers is None or _constant_shapes(first) != _constant_shapes(second):
        return None
    own = set(first.graph_signature.user_inputs)
    source = next(
        node
        for node in first.graph_module.graph.nodes
        if node.op == "placeholder" and node.name in own and has_batch(node.meta.get("val"), sizes[0])
    )
    _replace(first.graph_module.graph, source, numbers, sizes[0])
    return first


def _constant_shapes(program: torch.export.ExportedProgram) -> dict[str, torch.Size]:
    return {name: item.shape for name, item in program.constants.items() if isinstance(item, torch.Tensor)}


def _differences(first: fx.Graph, second: fx.Graph, p: int, q: int) -> dict[fx.Node, list[int | None]] | None:
    """Returns for each node the factor k of every leaf of its arguments that depends on the batch; None if in vain."""
    if len(first.nodes) != len(second.nodes):
        return None
    same: dict[fx.Node, fx.Node] = {}
    numbers: dict[fx.Node, list[int | None]] = {}
    for mine, other in zip(first.nodes, second.nodes, strict=True):
        same[mine] = other
        leaves, layout = _leaves(mine)
        others, other_layout = _leaves(other)
        if (mine.op, mine.target, layout) != (other.op, other.target, other_layout):
            return None
        factors: list[int | None] = []
        for a, b in zip(leaves, others, strict=True):
            if isinstance(a, fx.Node):
                if same.get(a) is not b:
                    return None
                factors.append(None)
            elif type(a) is type(b) and a == b:
                factors.append(None)
            elif type(a) is type(b) is int and a * q == b * p and a % p == 0:
                factors.append(a // p)
            else:
                return None
        if any(factor is not None for factor in factors):
            numbers[mine] = factors
    return numbers


def _leaves(node: fx.Node) -> tuple[list[Any], pytree.TreeSpec]:
    return pytree.tree_flatten((tuple(node.args), dict(node.kwargs)))


def _replace(graph: fx.Graph, source: fx.Node, numbers: dict[fx.Node, list[int | None]], batch: int) -> None:
    """Puts `k * source.shape[0]` where the numbers stood."""
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    with graph.inserting_after(last):
        size = graph.call_function(torch.ops.aten.sym_size.int, (source, 0))
    size.meta["val"] = batch
    products: dict[int, fx.Node] = {1: size}
    for factor in sorted({factor for factors in numbers.values() for factor in factors if factor is not None} - {1}):
        with graph.inserting_after(size):
            products[factor] = graph.call_function(operator.mul, (size, factor))
        products[factor].meta["val"] = batch * factor
    for node, factors in numbers.items():
        leaves, layout = _leaves(node)
        changed = [leaf if factor is None else products[factor] for leaf, factor in zip(leaves, factors, strict=True)]
        args, kwargs = pytree.tree_unflatten(changed, layout)
        node.args, node.kwargs = args, kwargs
