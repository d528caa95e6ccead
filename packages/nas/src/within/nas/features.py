"""Columns of numbers that describe architectures: the cell as a graph, and what tables have of it.

Only what is on a path from an input to the output counts, so cells that differ in dead operations or in the numbers of
their nodes have equal columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from within.nas.encoders.cell_genes import CellGenes
from within.nas.paths import EdgeLists, along_paths, live_edges, path_lengths
from within.nas.spaces import Architecture, nasbench101, nasbench201
from within.nas.tables.table import Table

Features = Callable[[Sequence[Architecture]], Float[np.ndarray, "architectures columns"]]

PATHS = ("paths", "shortest path", "longest path", "fewest convolutions of a path", "most convolutions of a path")
NASBENCH201_COLUMNS = (*nasbench201.OPERATIONS[1:], *PATHS, "parameters", "macs")
NASBENCH101_COLUMNS = (*nasbench101.OPERATIONS[: nasbench101.NONE], "edges", *PATHS)


def nasbench201_graph(architectures: Sequence[Architecture]) -> Float[np.ndarray, "architectures columns"]:
    """Returns `NASBENCH201_COLUMNS`; parameters and MACs are those of the network of the live operations."""
    kinds = np.asarray(architectures, dtype=np.int64).reshape(-1, len(nasbench201.EDGES))
    begins, ends = (np.broadcast_to(each, kinds.shape) for each in np.array(nasbench201.EDGES).T)
    graph = EdgeLists(nasbench201.NODES, begins, ends, kinds != nasbench201.NONE)
    live = live_edges(graph)
    counts = np.stack([(live & (kinds == op)).sum(1) for op in range(1, len(nasbench201.OPERATIONS))], axis=1)
    convolutions = np.isin(kinds, list(nasbench201.KERNELS))
    nothing = (nasbench201.NONE,) * len(nasbench201.EDGES)
    costs = []
    for cost in (nasbench201.parameters, nasbench201.macs):  # both are sums over operations
        each = [cost((op, *nothing[1:])) - cost(nothing) for op in range(1, len(nasbench201.OPERATIONS))]
        costs.append(cost(nothing) + counts @ np.array(each))
    return _columns(counts, _of_paths(graph, convolutions), np.stack(costs, axis=1))


def nasbench101_graph(architectures: Sequence[Architecture]) -> Float[np.ndarray, "architectures columns"]:
    """Returns `NASBENCH101_COLUMNS`; operations are counted by vertices."""
    space = nasbench101
    genes = np.asarray(architectures, dtype=np.int64).reshape(-1, len(space.PAIRS) + space.INNER)
    there, kinds = genes[:, : len(space.PAIRS)] != 0, genes[:, len(space.PAIRS) :]
    begins, ends = (np.broadcast_to(each, there.shape) for each in np.array(space.PAIRS).T)
    graph = EdgeLists(space.VERTICES, begins, ends, there)
    live = live_edges(graph)
    on = np.stack([(live & (ends == vertex)).any(1) for vertex in range(1, space.VERTICES - 1)], axis=1)
    counts = np.stack([(on & (kinds == op)).sum(1) for op in range(space.NONE)], axis=1)
    convolution = np.pad(kinds < space.NONE - 1, ((0, 0), (1, 1)))
    of_paths = _of_paths(graph, np.take_along_axis(convolution, ends, axis=1))
    return _columns(counts, live.sum(1)[:, None], of_paths)


def cell_graph(
    cells: Sequence[CellGenes],
    operations: int,
    *,
    convolutions: Sequence[int],
    none: int | None = None,
    cell_inputs: int = 2,
) -> Features:
    """Returns a function that gives, for each cell, the live operations of each kind and `PATHS`.

    Paths lead from any of the cell's inputs through inner nodes, each of which leads to the output.

    Arguments:
        cells: where their genes are.
        operations: values of an operation's gene.
        convolutions: those that are.
        none: the one that carries nothing, if there is one; it is not counted.
        cell_inputs: nodes before the first inner one.
    """

    def features(architectures: Sequence[Architecture]) -> Float[np.ndarray, "architectures columns"]:
        genes = np.asarray(architectures, dtype=np.int64).reshape(len(architectures), -1)
        found = []
        for cell in cells:
            inner, slots = cell.shape
            nodes = cell_inputs + inner + 1
            kinds = genes[:, np.ravel(cell.operations)]
            leave = np.broadcast_to(np.arange(cell_inputs, nodes - 1), (len(genes), inner))
            begins = np.concatenate([genes[:, np.ravel(cell.inputs)], leave], axis=1)
            ends = np.concatenate([np.repeat(leave, slots, axis=1), np.full_like(leave, nodes - 1)], axis=1)
            there = np.pad(np.ones_like(kinds, bool) if none is None else kinds != none, ((0, 0), (0, inner)))
            there[:, kinds.shape[1] :] = True
            graph = EdgeLists(nodes, begins, ends, there, inputs=cell_inputs)
            live = live_edges(graph)[:, : kinds.shape[1]]
            counts = [(live & (kinds == op)).sum(1) for op in range(operations) if op != none]
            heavy = np.pad(np.isin(kinds, list(convolutions)), ((0, 0), (0, inner)))
            found += [np.stack(counts, axis=1), _of_paths(graph, heavy)]
        return _columns(*found)

    return features


def looked_up(table: Table, names: Sequence[str]) -> Features:
    """Returns a function that gives columns of a table; NaN for architectures that are not in it.

    Raises:
        WithinError: when the table has no such column.
    """
    rows = {architecture: row for row, architecture in enumerate(table.architectures)}
    values = np.stack([table.column(name) for name in names], axis=1)
    values = np.concatenate([values, np.full((1, len(names)), np.nan)])

    def features(architectures: Sequence[Architecture]) -> Float[np.ndarray, "architectures columns"]:
        found: Float[np.ndarray, "architectures columns"] = values[
            [rows.get(tuple(each), -1) for each in architectures]
        ]
        return found

    return features


def computed(*functions: Callable[[Architecture], float]) -> Features:
    """Returns a function that gives a column for each function of an architecture, such as a space's exact costs."""
    return lambda architectures: np.array(
        [[function(each) for function in functions] for each in architectures], dtype=np.float64
    ).reshape(-1, len(functions))


def joined(*parts: Features) -> Features:
    """Returns a function that gives the columns of several, side by side."""
    return lambda architectures: np.concatenate([part(architectures) for part in parts], axis=1)


def _of_paths(graph: EdgeLists, convolutions: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.stack([*path_lengths(graph), *along_paths(graph, convolutions.astype(np.int64))], axis=1)


def _columns(*parts: NDArray[np.int64]) -> Float[np.ndarray, "architectures columns"]:
    return np.concatenate(parts, axis=1).astype(np.float64)
