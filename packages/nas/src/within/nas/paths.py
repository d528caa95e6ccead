"""Paths through many small graphs at once: which edges are on one, how many there are, and how long they are.

Graphs are lists of edges of equal length without a cycle, in any order of edges and numbers of nodes; the first nodes
are inputs, the last is the output. Every step handles one edge of all graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from within.core.errors import WithinError


@dataclass(frozen=True, eq=False)
class EdgeLists:
    """See the module.

    Attributes:
        nodes: of each graph.
        begins, ends: nodes of each edge.
        there: edges that are there.
        inputs: how many nodes are inputs.
    """

    nodes: int
    begins: Int[np.ndarray, "graphs edges"]
    ends: Int[np.ndarray, "graphs edges"]
    there: Bool[np.ndarray, "graphs edges"]
    inputs: int = 1


def live_edges(graphs: EdgeLists) -> Bool[np.ndarray, "graphs edges"]:
    """Returns whether each edge is there and on a path from an input to the output."""
    rows = np.arange(len(graphs.there))
    reached = np.zeros((len(rows), graphs.nodes), dtype=bool)
    reached[:, : graphs.inputs] = True
    leading = np.zeros_like(reached)
    leading[:, -1] = True
    for _ in range(graphs.nodes - 1):
        for edge in range(graphs.there.shape[1]):
            begin, end, there = graphs.begins[:, edge], graphs.ends[:, edge], graphs.there[:, edge]
            reached[rows, end] |= reached[rows, begin] & there
        for edge in reversed(range(graphs.there.shape[1])):
            begin, end, there = graphs.begins[:, edge], graphs.ends[:, edge], graphs.there[:, edge]
            leading[rows, begin] |= leading[rows, end] & there
    live = np.take_along_axis(reached, graphs.begins, 1) & np.take_along_axis(leading, graphs.ends, 1) & graphs.there
    return live


def path_lengths(
    graphs: EdgeLists,
) -> tuple[Int[np.ndarray, " graphs"], Int[np.ndarray, " graphs"], Int[np.ndarray, " graphs"]]:
    """Returns the number of paths, and the number of edges of the shortest and the longest; zeros where there is none.

    Raises:
        WithinError: when a graph has a cycle.
    """
    rows = np.arange(len(graphs.there))
    here = np.zeros((len(rows), graphs.nodes), dtype=np.int64)
    here[:, : graphs.inputs] = 1
    paths, shortest, longest = np.zeros((3, len(rows)), dtype=np.int64)
    for length in range(1, graphs.nodes + 1):
        after = np.zeros_like(here)
        for edge in range(graphs.there.shape[1]):
            after[rows, graphs.ends[:, edge]] += here[rows, graphs.begins[:, edge]] * graphs.there[:, edge]
        here = after
        arrived = here[:, -1]
        paths += arrived
        longest = np.where(arrived > 0, length, longest)
        shortest = np.where((arrived > 0) & (shortest == 0), length, shortest)
    if here.any():  # a walk of more edges than a path can have
        raise WithinError("A graph has a cycle", where=f"graph {np.flatnonzero(here.any(1))[0]}")
    return paths, shortest, longest


def along_paths(
    graphs: EdgeLists, weights: Int[np.ndarray, "graphs edges"]
) -> tuple[Int[np.ndarray, " graphs"], Int[np.ndarray, " graphs"]]:
    """Returns the least and the greatest sum of weights along a path; zeros where there is none."""
    rows = np.arange(len(graphs.there))
    far = np.iinfo(np.int64).max // 4
    least = np.full((len(rows), graphs.nodes), far)
    least[:, : graphs.inputs] = 0
    most = -least
    for _ in range(graphs.nodes - 1):
        for edge in range(graphs.there.shape[1]):
            begin, end, there = graphs.begins[:, edge], graphs.ends[:, edge], graphs.there[:, edge]
            low, high = least[rows, begin] + weights[:, edge], most[rows, begin] + weights[:, edge]
            least[rows, end] = np.where(there, np.minimum(least[rows, end], low), least[rows, end])
            most[rows, end] = np.where(there, np.maximum(most[rows, end], high), most[rows, end])
    found = np.abs(most[:, -1]) < far // 2
    return np.where(found, least[:, -1], 0), np.where(found, most[:, -1], 0)
