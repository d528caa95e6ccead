"""Execute the operators in the order that needs the least memory.

An order is a path through the downsets of the graph (sets of nodes closed under inputs), and its peak the highest row
on the way. Small graphs: best-first search over downsets, so the first way to the end has the least peak; a node that
frees at least what it takes and stays under the peak so far is run at once, which loses nothing. Larger ones: a beam
of the best partial orders. The traced order stays where neither is better. (Ahn et al.: Ordering chaos, MLSys 2020.)

Besides its inputs a node waits for those that touch the same storage, where one of the two writes to it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import fx, nn

from within.core.errors import WithinError
from within.core.transform.editable import editable, finished, kind, with_graph, writes
from within.core.transform.lifetimes import Lifetimes, NodeWorkspace, lifetimes

STATES = 20_000  # downsets that the exact search may visit
BEAM = 24

Method = Literal["exact", "greedy", "auto"]


@dataclass(frozen=True)
class Order:
    """An execution order.

    Attributes:
        names: nodes in order.
        peak: its highest row, in bytes.
        exact: whether no order has a lower one.
    """

    names: tuple[str, ...]
    peak: int
    exact: bool


def minimise_order(
    model: nn.Module, inputs: Sequence[Any], *, method: Method = "auto", order: Sequence[str] | None = None
) -> fx.GraphModule:
    """Returns the model with its operators in an order of low peak memory.

    Arguments:
        method: "exact" search, "greedy" (a beam), or "auto": the beam where the exact search grows too large.
        order: names of all nodes in the order to take, as a search has found it; then nothing is searched.

    Raises:
        WithinError: when the model cannot be traced, when "exact" exceeds its limit, or when `order` is not an order
            of this model.
    """
    module = editable(model, inputs)
    if order is None:
        order = least_order(module, method=method).names
    return finished(with_graph(module, _reordered(module, order)))


def least_order(module: fx.GraphModule, *, method: Method = "auto", workspace: NodeWorkspace | None = None) -> Order:
    """Returns the best order found for an annotated module; the peak includes `workspace` where one is given.

    Raises:
        WithinError: when "exact" exceeds its limit.
    """
    found = lifetimes(module, workspace)
    problem = _Problem(module, found)
    traced = Order(tuple(node.name for node in found.nodes), found.peak, False)
    steps = problem.exact() if method != "greedy" else None
    if steps is not None:
        peak, names = steps
        best = traced if found.peak <= peak else Order(names, peak, True)
        return Order(best.names, best.peak, True)
    if method == "exact":
        raise WithinError(
            f"The exact order needs more than {STATES} states", where=f"{len(found.nodes)} nodes", todo="choose auto"
        )
    peak, names = problem.beam()
    return Order(names, peak, False) if peak < found.peak else traced


def _reordered(module: fx.GraphModule, order: Sequence[str]) -> fx.Graph:
    nodes = {node.name: node for node in module.graph.nodes}
    fixed = [node for node in module.graph.nodes if node.op in ("placeholder", "get_attr")]
    output = next(node for node in module.graph.nodes if node.op == "output")
    running = {name for name, node in nodes.items() if node.op in ("call_function", "call_module")}
    if set(order) != running or len(order) != len(running):
        raise WithinError("The order does not name every node of the model once", where=type(module).__name__)
    graph = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    for node in [*fixed, *(nodes[name] for name in order), output]:
        if any(source not in mapping for source in node.all_input_nodes):
            raise WithinError("The order uses a value before it exists", where=node.name)
        mapping[node] = graph.node_copy(node, lambda item: mapping[item])
    return graph


@dataclass(frozen=True)
class _State:
    """Nodes that have run, as bits; live bytes; and the real nodes whose inputs are there."""

    done: int
    live: int
    ready: tuple[int, ...]


class _Problem:
    """Nodes as bits: what each waits for, takes and frees.

    A node without a real input (views of weights, empty buffers, sizes) is run right before the first that needs it.
    """

    def __init__(self, module: fx.GraphModule, found: Lifetimes) -> None:
        self.found = found
        nodes, index = found.nodes, found.index
        light = 0
        self.ancestors: list[int] = []  # light nodes that a node needs
        self.before: list[int] = []  # real nodes that it waits for, through light ones too
        conflicts: dict[int, int] = {}
        for first, second in _conflicts(found):
            conflicts[second] = conflicts.get(second, 0) | 1 << first
        for position, node in enumerate(nodes):
            sources = [index[source] for source in node.all_input_nodes if source in index]
            outside = [source for source in node.all_input_nodes if source not in index]
            bare = all(light >> source & 1 for source in sources) and all(item.op == "get_attr" for item in outside)
            if not writes(node) and (bare or kind(node) in ("new_empty", "sym_size")):
                light |= 1 << position
            need, wait = 0, conflicts.get(position, 0) & ~light
            for source in sources:
                if light >> source & 1:
                    need |= 1 << source | self.ancestors[source]
                    wait |= self.before[source]
                else:
                    wait |= 1 << source
            self.ancestors.append(need)
            self.before.append(wait)
        self.everything = (1 << len(nodes)) - 1
        self.real = self.everything & ~light
        self.after: list[list[int]] = [[] for _ in nodes]
        for position in _bits(self.real):
            for source in _bits(self.before[position]):
                self.after[source].append(position)
        self.start = _State(0, 0, tuple(position for position in _bits(self.real) if not self.before[position]))
        self._read_storages(module)

    def _read_storages(self, module: fx.GraphModule) -> None:
        found = self.found
        output = next(node for node in module.graph.nodes if node.op == "output")
        returned = {identity for source in output.all_input_nodes for identity in found.storages[source]}
        self.takes: list[list[int]] = [[] for _ in found.nodes]
        for identity, start in found.born.items():
            self.takes[start].append(identity)
        self.touching: dict[int, int] = dict.fromkeys(found.born, 0)
        self.touches: list[list[int]] = []
        for position, node in enumerate(found.nodes):
            values = (node, *node.all_input_nodes)
            near = {identity for item in values for identity in found.storages[item] if identity in self.touching}
            self.touches.append([identity for identity in near if identity not in returned])
            for identity in near:
                self.touching[identity] |= 1 << position

    def run(self, state: _State, position: int) -> tuple[_State, int, list[int]]:
        """Runs a node and what it needs; returns the state after it, its highest row and the positions run."""
        positions = [*_bits(self.ancestors[position] & ~state.done), position]
        live, done, highest = state.live, state.done, 0
        for item in positions:
            live += sum(self.found.bytes[identity] for identity in self.takes[item])
            highest = max(highest, live + int(self.found.extra[item]))
            done |= 1 << item
            for identity in self.touches[item]:
                if not self.touching[identity] & ~done:
                    live -= self.found.bytes[identity]
        ready = [other for other in state.ready if other != position]
        ready += [other for other in self.after[position] if not self.before[other] & ~done]
        return _State(done, live, tuple(ready)), highest, positions

    def settle(self, state: _State, peak: int) -> tuple[_State, list[int]]:
        """Runs every ready node that frees at least what it takes and stays under the peak so far."""
        path: list[int] = []
        going = True
        while going:
            going = False
            for position in state.ready:
                after, highest, positions = self.run(state, position)
                if after.live <= state.live and highest <= peak:
                    state, going = after, True
                    path += positions
                    break
        return state, path

    def exact(self) -> tuple[int, tuple[str, ...]] | None:
        """Searches downsets by their peak; None when there are too many."""
        best: dict[int, int] = {0: 0}
        parents: dict[int, tuple[int, list[int]]] = {}
        heap: list[tuple[int, int, int, _State]] = [(0, 0, 0, self.start)]
        count = 0
        closed: set[int] = set()
        while heap:
            peak, _, _, state = heapq.heappop(heap)
            if state.done in closed:
                continue
            closed.add(state.done)
            if not self.real & ~state.done:
                return peak, self._names(_path(parents, state.done))
            for position in state.ready:
                after, highest, positions = self.run(state, position)
                top = max(peak, highest)
                after, more = self.settle(after, top)
                if best.get(after.done, top + 1) <= top:
                    continue
                count += 1
                if count > STATES:
                    return None
                best[after.done] = top
                parents[after.done] = (state.done, positions + more)
                heapq.heappush(heap, (top, -after.done.bit_count(), count, after))
        return None

    def beam(self) -> tuple[int, tuple[str, ...]]:
        """Extends the best partial orders, each by one node at a time."""
        partial: dict[int, tuple[int, _State, list[int]]] = {0: (0, self.start, [])}
        while any(self.real & ~done for done in partial):
            grown: dict[int, tuple[int, _State, list[int]]] = {}
            for peak, state, path in partial.values():
                steps = [self.run(state, position) for position in state.ready] or [(state, 0, [])]
                for after, highest, positions in steps:
                    top = max(peak, highest)
                    after, more = self.settle(after, top)
                    if after.done not in grown or top < grown[after.done][0]:
                        grown[after.done] = (top, after, [*path, *positions, *more])
            ranked = sorted(grown.values(), key=lambda entry: (entry[0], entry[1].live, -entry[1].done.bit_count()))
            partial = {entry[1].done: entry for entry in ranked[:BEAM]}
        peak, _, path = min(partial.values(), key=lambda entry: entry[0])
        return peak, self._names(path)

    def _names(self, path: list[int]) -> tuple[str, ...]:
        """Returns the names on a path; nodes that nothing real needs come last."""
        left = self.everything & ~sum(1 << position for position in path)
        return tuple(self.found.nodes[position].name for position in [*path, *_bits(left)])


def _conflicts(found: Lifetimes) -> Iterator[tuple[int, int]]:
    """Yields pairs of positions that must keep their order: both touch a storage and one of them writes to it."""
    readers: dict[int, list[int]] = {}
    writer: dict[int, int] = {}
    for position, node in enumerate(found.nodes):
        own = set(found.storages[node])
        read = {identity for source in node.all_input_nodes for identity in found.storages[source]}
        if writes(node):
            for identity in own:
                yield from ((earlier, position) for earlier in readers.pop(identity, []))
                if identity in writer:
                    yield writer[identity], position
                writer[identity] = position
            read -= own
        elif read and own <= read and own:  # a view touches no data
            continue
        for identity in read:
            readers.setdefault(identity, []).append(position)
            if identity in writer:
                yield writer[identity], position


def _bits(state: int) -> Iterator[int]:
    while state:
        lowest = state & -state
        yield lowest.bit_length() - 1
        state ^= lowest


def _path(parents: dict[int, tuple[int, list[int]]], state: int) -> list[int]:
    pieces = []
    while state:
        state, positions = parents[state]
        pieces.append(positions)
    return [position for positions in reversed(pieces) for position in positions]
