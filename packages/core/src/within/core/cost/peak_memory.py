"""Peak memory of one forward pass, predicted exactly from lifetimes.

`live_graph`: each storage is freed right after its last use in the traced order. With operators v_1 .. v_T in order and
storage s born at p(s) and last used at l(s):

    M_tau = sum over s with p(s) <= tau <= l(s) of bytes(s),     peak = max over tau of M_tau.

An operator's inputs and its output are alive together; views and in-place results share the storage they alias; the
output of the network is included and lives to the end; weights and the caller's input are not included.
For a fixed input size bytes(s) is linear in the width of its channel group, so "peak <= B" is one linear constraint an
operator. With a workspace table, what a backend allocates inside an operator is added to its row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from within.core.cost.cost import Decision, vector_of
from within.core.cost.transient import TransientBytes, find_transients
from within.core.graph import Graph, Operator
from within.core.graph.operator import Shape

Workspace = Callable[[Operator, Callable[[str], Shape]], int]
"""Extra bytes that a backend allocates inside an operator, from the shapes of its values."""


@dataclass(frozen=True)
class Storage:
    """One allocation.

    Attributes:
        value: the value that created it.
        born, last: index of the operator that creates it and of the last one that uses it.
        bytes: its size in the dense model.
        item_bytes: bytes an element.
        transient: for what the operator `value` allocates and frees inside: bytes as a function of shapes.
    """

    value: str
    born: int
    last: int
    bytes: int
    item_bytes: int = 0
    transient: TransientBytes | None = None


@dataclass(frozen=True)
class MemoryTimeline:
    """Live bytes while each operator runs.

    Attributes:
        operators: names of the operators.
        bytes: live bytes during each, workspace included.
        storages: all allocations.
        sizes: bytes of each allocation under the decision.
    """

    operators: tuple[str, ...]
    bytes: NDArray[np.int64]
    storages: tuple[Storage, ...]
    sizes: tuple[int, ...]

    @property
    def peak(self) -> int:
        """The highest live bytes."""
        return int(self.bytes.max()) if len(self.bytes) else 0

    @property
    def peak_operator(self) -> int:
        """Index of the first operator at which the peak is reached."""
        return int(self.bytes.argmax())

    def alive(self, operator: int) -> list[tuple[Storage, int]]:
        """Returns the allocations alive during an operator and their bytes, largest first."""
        found = [
            (storage, size)
            for storage, size in zip(self.storages, self.sizes, strict=True)
            if storage.born <= operator <= storage.last
        ]
        return sorted(found, key=lambda entry: -entry[1])


@dataclass(frozen=True)
class PeakMemory:
    """Peak bytes of the activations of one forward pass, executed in the traced order.

    Arguments:
        workspace: optional backend table: extra bytes inside an operator (see `within.core.device`).
    """

    workspace: Workspace | None = None
    name: str = "peak memory (live_graph)"
    unit: str = "bytes"
    _cache: dict[int, tuple[Graph, tuple[Storage, ...]]] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, graph: Graph, decision: Decision = None) -> int:
        """Returns the peak bytes under a decision."""
        return self.timeline(graph, decision).peak

    def timeline(self, graph: Graph, decision: Decision = None) -> MemoryTimeline:
        """Returns live bytes operator by operator under a decision."""
        vector = vector_of(graph, decision)
        storages = self._storages(graph)
        sizes = [self._bytes(graph, storage, vector) for storage in storages]
        change = np.zeros(len(graph.operators) + 1, dtype=np.int64)
        for storage, size in zip(storages, sizes, strict=True):
            change[storage.born] += size
            change[storage.last + 1] -= size
        live = np.cumsum(change)[:-1]
        if self.workspace is not None:
            live = live + np.array(
                [self.workspace(op, lambda value: graph.shape(value, vector)) for op in graph.operators], dtype=np.int64
            )
        return MemoryTimeline(tuple(op.name for op in graph.operators), live, storages, tuple(sizes))

    def rows(self, graph: Graph, decision: Decision = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns (coefficients, constants) with M_tau(k) = constants[tau] + coefficients[tau] @ k.

        Exact when every storage is linear in its widths; where two channel axes of one tensor vary (attention scores)
        the rows are the tangent at `decision`. Workspace is not included.
        """
        vector = vector_of(graph, decision)
        at = graph.width_vector() if vector is None else vector
        operators, groups = len(graph.operators), len(graph.channel_groups())
        change = np.zeros((operators + 1, groups))
        constant = np.zeros(operators + 1)
        for storage in self._storages(graph):
            size = self._bytes(graph, storage, at)
            slope = self._slope(graph, storage, at, size)
            change[storage.born] += slope
            change[storage.last + 1] -= slope
            offset = size - float(slope @ at)
            constant[storage.born] += offset
            constant[storage.last + 1] -= offset
        return np.cumsum(change, axis=0)[:-1], np.cumsum(constant)[:-1]

    def _storages(self, graph: Graph) -> tuple[Storage, ...]:
        cached = self._cache.get(id(graph))
        if cached is None:
            cached = (graph, find_storages(graph))
            self._cache.clear()
            self._cache[id(graph)] = cached
        return cached[1]

    @staticmethod
    def _bytes(graph: Graph, storage: Storage, vector: NDArray[np.int64] | None) -> int:
        if vector is None:
            return storage.bytes
        if storage.transient is not None:
            return storage.transient(lambda node: graph.shape(node.name, vector))
        if storage.value not in graph.axes:
            return storage.bytes
        return math.prod(graph.shape(storage.value, vector)) * storage.item_bytes

    def _slope(self, graph: Graph, storage: Storage, at: NDArray[np.int64], size: int) -> NDArray[np.float64]:
        """Returns the bytes that one more atom of each group adds to a storage."""
        slope = np.zeros(len(at))
        if storage.transient is None:
            for axis, index in graph.axes.get(storage.value, {}).items():
                length = graph.shape(storage.value, at)[axis]
                for group, per_atom in index.counts:
                    slope[group] += size / length * per_atom
            return slope
        node = graph.nodes[storage.value]
        values = [node.name, *(item.name for item in node.all_input_nodes)]
        touched = {
            group for value in values for index in graph.axes.get(value, {}).values() for group, _ in index.counts
        }
        for group in touched:
            more = at.copy()
            more[group] += 1
            slope[group] = self._bytes(graph, storage, more) - size
        return slope


def find_storages(graph: Graph) -> tuple[Storage, ...]:
    """Returns every allocation of a graph with its lifetime in operator indices."""
    index = {op.name: op.index for op in graph.operators}
    outside = {
        graph.storages[node.name][0]
        for node in graph.fx_graph.nodes
        if node.op == "placeholder" and node.name in graph.storages
    }
    born: dict[int, tuple[str, int]] = {}
    last: dict[int, int] = {}
    for value, (identity, _) in graph.storages.items():
        node = value.split(":")[0]
        if identity in outside or node not in index:
            continue
        born.setdefault(identity, (value, index[node]))
        users = [index[user.name] for user in graph.nodes[node].users if user.name in index]
        end = max([index[node], *users])
        if any(user.op == "output" for user in graph.nodes[node].users):
            end = len(graph.operators) - 1
        last[identity] = max(last.get(identity, 0), end)
    storages = []
    for identity, (value, start) in born.items():
        tensor = _tensor(graph, value)
        storages.append(Storage(value, start, last[identity], graph.storages[value][1], tensor.element_size()))
    for op, transient in find_transients(graph):
        size = transient(lambda node: graph.shapes[node.name])
        storages.append(Storage(op.name, op.index, op.index, size, transient=transient))
    return tuple(storages)


def _tensor(graph: Graph, value: str) -> torch.Tensor:
    name, _, position = value.partition(":")
    found = graph.nodes[name].meta["val"]
    result: torch.Tensor = found[int(position)] if position else found
    return result
