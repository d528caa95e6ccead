"""Which storages are alive at each node of an annotated graph, and how many bytes: the ruler that transforms go by.

The same definition as `PeakMemory` (live_graph) and, node by node, the same figures; but read off an fx graph under
edit, without a new trace. With a workspace table, what the backend needs inside an operator is added to its row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from within.core.cost.transient import PLAIN_WHEN_CONTIGUOUS, dry_run
from within.core.device.workspace import WorkspaceTable, operator_key, packaged_workspace_table
from within.core.graph.operator import Operator, read_operators, shape_of
from within.core.graph.rules import rule_of
from within.core.transform.editable import value

NodeWorkspace = Callable[[fx.Node], int]
"""Extra bytes that a backend allocates inside the operator of a node."""


@dataclass(frozen=True)
class Lifetimes:
    """Storages of one annotated graph.

    Attributes:
        nodes: the nodes that run, in order; the output node is not one of them.
        index: position of each; of the output node, their number.
        storages: identities of the storages that each node's value lies in.
        bytes: size of each storage.
        born, last: first node that has a storage and last one that uses it; storages of inputs and parameters have
            neither.
        extra: bytes inside each node: results nobody reads, and workspace.
    """

    nodes: tuple[fx.Node, ...]
    index: dict[fx.Node, int]
    storages: dict[fx.Node, tuple[int, ...]]
    bytes: dict[int, int]
    born: dict[int, int]
    last: dict[int, int]
    extra: NDArray[np.int64] = field(repr=False)

    @functools.cached_property
    def rows(self) -> NDArray[np.int64]:
        """Bytes alive while each node runs, workspace included."""
        change = np.zeros(len(self.nodes) + 1, dtype=np.int64)
        for identity, start in self.born.items():
            change[start] += self.bytes[identity]
            change[self.last[identity] + 1] -= self.bytes[identity]
        rows: NDArray[np.int64] = np.cumsum(change)[:-1] + self.extra
        return rows

    @property
    def peak(self) -> int:
        """The highest row."""
        return int(self.rows.max()) if len(self.rows) else 0

    @property
    def allocating(self) -> NDArray[np.int64]:
        """The rows of nodes that create a storage: views and in-place operators add none to what is alive."""
        return self.rows[sorted(set(self.born.values()))]

    def alive(self, identity: int, position: int) -> bool:
        """Whether a storage is alive at a position."""
        return identity in self.born and self.born[identity] <= position <= self.last[identity]

    def dies_at(self, node: fx.Node, identity: int) -> bool:
        """Whether `node` is the last to use a storage that the graph itself made."""
        return identity in self.born and self.last[identity] == self.index[node]


def lifetimes(module: fx.GraphModule, workspace: NodeWorkspace | None = None) -> Lifetimes:
    """Returns the lifetimes of an annotated graph module."""
    nodes = [node for node in module.graph.nodes if node.op in ("call_function", "call_module")]
    output = next(node for node in module.graph.nodes if node.op == "output")
    index = {node: position for position, node in enumerate(nodes)} | {output: len(nodes)}
    storages: dict[fx.Node, tuple[int, ...]] = {}
    size: dict[int, int] = {}
    outside: set[int] = set()
    born: dict[int, int] = {}
    last: dict[int, int] = {}
    for node in module.graph.nodes:
        found = {item.untyped_storage()._cdata: item.untyped_storage().nbytes() for item in _tensors(node)}
        storages[node] = tuple(found)
        if node not in index:
            outside.update(found)
            continue
        for source in node.all_input_nodes:
            for identity in storages[source]:
                if identity in born:
                    last[identity] = min(index[node], len(nodes) - 1)
        if node is output:
            continue
        for identity, total in found.items():
            if identity not in outside and identity not in born:
                born[identity], last[identity], size[identity] = index[node], index[node], int(total)
    extra = np.zeros(len(nodes), dtype=np.int64)
    for operator in read_operators(module.graph):
        extra[index[operator.node]] = _transient(operator)
    if workspace is not None:
        extra += np.array([workspace(node) for node in nodes], dtype=np.int64)
    return Lifetimes(tuple(nodes), index, storages, size, born, last, extra)


def resident_workspace(table: WorkspaceTable | None = None) -> NodeWorkspace:
    """Returns the workspace of nodes by a table (by default the packaged one), as resident memory counts it.

    Without the indices of max pooling: `lifetimes` counts them as live.
    """
    chosen = packaged_workspace_table() if table is None else table
    known: dict[Any, int] = {}

    def workspace(node: fx.Node) -> int:
        if not isinstance(node.target, torch._ops.OpOverload):
            return 0
        key = operator_key(node)
        if key is None or key.kind == "max_pool":
            return 0
        if key not in known:
            known[key] = chosen.lookup(key, "rss").bytes
        return known[key]

    return workspace


def _transient(operator: Operator) -> int:
    """Returns the bytes of tensors inside an operator that are in no edge of the graph (see `cost.transient`)."""
    rule = rule_of(operator)
    if rule is None or rule.transient is None:
        return 0
    if rule.transient != "derived":
        return rule.transient(operator, shape_of)
    plain = operator.kind in PLAIN_WHEN_CONTIGUOUS and all(value(node).is_contiguous() for node in operator.tensors)
    evaluated = operator.kind == "batch_norm" and not operator["training"]
    return 0 if plain or evaluated else dry_run(operator)


def _tensors(node: fx.Node) -> Iterator[Tensor]:
    found = node.meta.get("val") if node.op != "output" else None
    for item in found if isinstance(found, (tuple, list)) else (found,):
        if isinstance(item, Tensor):
            yield item
