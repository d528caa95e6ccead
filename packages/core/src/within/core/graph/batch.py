"""Opens the batch of a trace that fixed it, by comparing the traces of two batch sizes.

A `forward` that turns a size into a Python number (`int(x.shape[0] / windows)`) makes `torch.export` fix the batch at
that of the example. Where the operators of the traces at batches p and q are the same and every number n(p), n(q) that
differs is proportional to the batch, n(p) / p = n(q) / q = k, it is replaced by k times the batch of the input.

A number that was worked out from a symbol (`int(4 * batch)`) may be burned in without a word, so a program with
symbols is believed only where it gives the shapes that the model itself gives at another size.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
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


def larger(inputs: Inputs, program: torch.export.ExportedProgram) -> Inputs:
    """Returns inputs of a batch of three and twice the size, along the axes that are symbols in a program."""
    own = set(program.graph_signature.user_inputs)
    shapes = [
        node.meta["val"].shape if isinstance(node.meta.get("val"), torch.Tensor) else ()
        for node in program.graph_module.graph.nodes
        if node.op == "placeholder" and node.name in own
    ]
    batch = batch_of(inputs)
    grown = []
    for item, shape in zip(with_batch(inputs, 3 if shapes and shapes[0] and is_open(shapes[0][0]) else batch), shapes):
        if isinstance(item, torch.Tensor):
            for axis, size in enumerate(shape):
                if axis and is_open(size):
                    item = torch.cat([item, item], axis)
        grown.append(item)
    return tuple(grown)


def is_open(size: int | torch.SymInt) -> bool:
    """Whether a size is a symbol still; one that `forward` asked for as a number is a constant by now."""
    return isinstance(size, torch.SymInt) and bool(size.node.expr.free_symbols)


def agrees(program: torch.export.ExportedProgram, model: nn.Module, inputs: Inputs) -> bool:
    """Whether a program has output shapes as the model at given inputs (or the model does not take them either)."""
    own_tensors = [*model.parameters(), *model.buffers()]
    shadow = copy.deepcopy(model, {id(item): item for item in own_tensors})  # a forward may cache what it computes
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(item) if isinstance(item, torch.Tensor) else item for item in inputs]
        try:
            wanted = _shapes(shadow(*fake))
        except Exception:  # the user's forward may refuse a size in any way
            return True
        own = set(program.graph_signature.user_inputs)
        state: dict[str, Any] = {**program.state_dict, **program.constants}
        names = {
            **program.graph_signature.inputs_to_parameters,
            **program.graph_signature.inputs_to_buffers,
            **program.graph_signature.inputs_to_lifted_tensor_constants,
        }
        placeholders = [node for node in program.graph_module.graph.nodes if node.op == "placeholder"]
        if sum(node.name in own for node in placeholders) != len(fake):  # nested inputs: nothing to go by
            return True
        remaining = iter(fake)
        values = [next(remaining) if node.name in own else state[names[node.name]] for node in placeholders]
        try:
            return _shapes(fx.Interpreter(program.graph_module).run(*values)) == wanted
        except Exception:  # a view of a number of elements that was burned in
            return False


def _shapes(output: Any) -> list[tuple[int, ...]]:
    return [tuple(item.shape) for item in pytree.tree_leaves(output) if isinstance(item, torch.Tensor)]


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
