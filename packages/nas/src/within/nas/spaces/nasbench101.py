"""NAS-Bench-101: cells of up to seven vertices, an operation on each inner one, and at most nine edges.

Ying et al.: NAS-Bench-101, ICML 2019. Vertex 0 is the input, vertex 6 the output. The genes are the 21 possible edges,
row by row of the upper triangle, and the operations of the five inner vertices; smaller cells are padded with vertices
without edges before the output, whose operation is `none`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.nas.spaces.space import Architecture, Gene, Space

OPERATIONS = ("conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3", "none")
NONE = 3
VERTICES, MOST_EDGES = 7, 9
PAIRS = tuple(itertools.combinations(range(VERTICES), 2))  # from, to
INNER = VERTICES - 2


def from_matrix(matrix: Sequence[Sequence[int]] | NDArray[np.integer], operations: Sequence[str]) -> Architecture:
    """Returns the architecture of an adjacency matrix and the vertices' operations, as the published table has them.

    Arguments:
        matrix: from row to column, upper triangular, up to 7 x 7.
        operations: of all vertices; the first is "input", the last "output".

    Raises:
        WithinError: when sizes differ, an operation is unknown, or an edge does not lead forward.
    """
    found = np.asarray(matrix)
    count = len(operations)
    if found.shape != (count, count) or not 2 <= count <= VERTICES:
        raise WithinError(f"A matrix of {found.shape} for {count} operations", todo="give 2 to 7 vertices")
    if np.tril(found).any():
        raise WithinError("An edge leads back", todo="number the vertices so that edges lead to higher ones")
    unknown = [name for name in operations[1:-1] if name not in OPERATIONS[:NONE]]
    if unknown:
        raise WithinError(f"There is no operation {unknown[0]!r}", todo=f"choose one of {', '.join(OPERATIONS[:NONE])}")
    rows = [*range(count - 1), VERTICES - 1]
    padded = np.zeros((VERTICES, VERTICES), np.int64)
    padded[np.ix_(rows, rows)] = found != 0
    numbers = [OPERATIONS.index(name) for name in operations[1:-1]]
    return _joined(padded, [*numbers, *[NONE] * (INNER - len(numbers))])


def to_matrix(architecture: Architecture) -> tuple[Int[np.ndarray, "7 7"], tuple[int, ...]]:
    """Returns the adjacency matrix and the operations of the five inner vertices."""
    matrix = np.zeros((VERTICES, VERTICES), np.int64)
    for (before, after), there in zip(PAIRS, architecture, strict=False):
        matrix[before, after] = there
    return matrix, tuple(architecture[len(PAIRS) :])


def reduced(architecture: Architecture) -> Architecture:
    """Returns the architecture without vertices that are on no path from the input to the output.

    Without such a path only padding is left.
    """
    matrix, operations = to_matrix(architecture)
    reach = np.linalg.matrix_power(np.eye(VERTICES, dtype=np.int64) + matrix, VERTICES) > 0
    on = [vertex for vertex in range(VERTICES) if reach[0, vertex] and reach[vertex, VERTICES - 1]]
    padded = np.zeros((VERTICES, VERTICES), np.int64)
    if not on:
        return _joined(padded, [NONE] * INNER)
    rows = [*range(len(on) - 1), VERTICES - 1]
    padded[np.ix_(rows, rows)] = matrix[np.ix_(on, on)]
    kept = [operations[vertex - 1] for vertex in on[1:-1]]
    return _joined(padded, [*kept, *[NONE] * (INNER - len(kept))])


def is_network(architecture: Architecture) -> bool:
    """Whether at most nine edges are left that matter, one leads on, and padding has no edges."""
    found = reduced(architecture)
    edges = sum(found[: len(PAIRS)])
    if not 1 <= edges <= MOST_EDGES:
        return False
    matrix, operations = to_matrix(found)
    used = matrix[1:-1].any(1)
    return all(op != NONE for op, there in zip(operations, used.tolist(), strict=True) if there)


def canonical(architecture: Architecture) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the least matrix and operations among all numberings of the inner vertices of the reduced cell."""
    matrix, operations = to_matrix(reduced(architecture))
    used = [vertex for vertex in range(1, VERTICES - 1) if matrix[vertex].any()]
    best = None
    for order in itertools.permutations(used):
        rows = [0, *order, VERTICES - 1]
        found = (
            tuple(matrix[np.ix_(rows, rows)].ravel().tolist()),
            tuple(operations[vertex - 1] for vertex in order),
        )
        best = found if best is None else min(best, found)
    assert best is not None
    return best


def _joined(matrix: NDArray[np.int64], operations: Sequence[int]) -> Architecture:
    return (*(int(matrix[pair]) for pair in PAIRS), *operations)


SPACE = Space(
    "NAS-Bench-101",
    (
        *(Gene(f"{before} to {after}", (0, 1)) for before, after in PAIRS),
        *(Gene(f"vertex {vertex}", OPERATIONS) for vertex in range(1, VERTICES - 1)),
    ),
    is_network=is_network,
    canonical=canonical,
)
