"""NAS-Bench-101: cells of up to seven vertices, an operation on each inner one, and at most nine edges.

    conv3x3 3 -> 128, BN, ReLU; 3 cells at 128 channels, 2 x 2 max pool, 3 at 256, max pool, 3 at 512; average; linear

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
from within.nas.spaces.layer_counts import Counts, convolution, linear
from within.nas.spaces.space import Architecture, Gene, Space

OPERATIONS = ("conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3", "none")
NONE = 3
VERTICES, MOST_EDGES = 7, 9
PAIRS = tuple(itertools.combinations(range(VERTICES), 2))  # from, to
INNER = VERTICES - 2
KERNELS = {0: 1, 1: 3}
STEM, STACKS, CELLS = 128, 3, 3


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
    edges = [pair for pair, there in zip(PAIRS, architecture, strict=False) if there]
    reached, leading = {0}, {VERTICES - 1}
    for before, after in edges:  # in the order of `before`
        if before in reached:
            reached.add(after)
    for before, after in reversed(edges):
        if after in leading:
            leading.add(before)
    on = sorted(reached & leading)
    if VERTICES - 1 not in on:
        return (*[0] * len(PAIRS), *[NONE] * INNER)
    rows = dict(zip(on, [*range(len(on) - 1), VERTICES - 1], strict=True))
    kept = {(rows[before], rows[after]) for before, after in edges if before in rows and after in rows}
    operations = [architecture[len(PAIRS) + vertex - 1] for vertex in on[1:-1]]
    return (*(int(pair in kept) for pair in PAIRS), *operations, *[NONE] * (INNER - len(operations)))


def is_network(architecture: Architecture) -> bool:
    """Whether at most nine edges are left that matter, one leads on, and padding has no edges."""
    found = reduced(architecture)
    if not 1 <= sum(found[: len(PAIRS)]) <= MOST_EDGES:
        return False
    padded = {vertex for vertex in range(1, VERTICES - 1) if found[len(PAIRS) + vertex - 1] == NONE}
    return not any(there and before in padded for (before, _), there in zip(PAIRS, found, strict=False))


def canonical(architecture: Architecture) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns a matrix and operations that are equal for all numberings of the inner vertices of the reduced cell.

    The least ones, among the orders by what each vertex sees of the cell.
    """
    matrix, operations = to_matrix(reduced(architecture))
    edges = np.argwhere(matrix).tolist()
    used = [vertex for vertex in range(1, VERTICES - 1) if matrix[vertex].any()]
    sights = [0, *operations, NONE + 1]
    for _ in used:
        seen = [
            (
                sights[vertex],
                tuple(sorted(sights[before] for before, after in edges if after == vertex)),
                tuple(sorted(sights[after] for before, after in edges if before == vertex)),
                vertex in (0, VERTICES - 1),
            )
            for vertex in range(VERTICES)
        ]
        ranks = {sight: rank for rank, sight in enumerate(sorted(set(seen)))}
        sights = [ranks[sight] for sight in seen]
    alike = [
        [vertex for vertex in used if sights[vertex] == sight] for sight in sorted({sights[each] for each in used})
    ]
    best = None
    for orders in itertools.product(*map(itertools.permutations, alike)):
        order = list(itertools.chain(*orders))
        rows = [0, *order, VERTICES - 1]
        found = (
            tuple(matrix[np.ix_(rows, rows)].ravel().tolist()),
            tuple(operations[vertex - 1] for vertex in order),
        )
        best = found if best is None else min(best, found)
    assert best is not None
    return best


def counts(architecture: Architecture, classes: int = 10, size: int = 32) -> Counts:
    """Returns parameters and MACs; both may depend on how the inner vertices are numbered, see `vertex_channels`.

    Arguments:
        architecture: of the cell; what is on no path does not count.
        classes: of the last layer.
        size: side of the picture.
    """
    found, cell = convolution(3, STEM, 3, size), reduced(architecture)
    inputs = outputs = STEM
    for stack in range(STACKS):
        if stack:
            outputs, size = 2 * outputs, -(-size // 2)
        found += _cell_counts(cell, inputs, outputs, size)
        found += _cell_counts(cell, outputs, outputs, size) * (CELLS - 1)
        inputs = outputs
    return found + linear(outputs, classes)


def parameters(architecture: Architecture, classes: int = 10) -> int:
    """Returns the number of weights of the whole network, batch norms included."""
    return counts(architecture, classes).params


def macs(architecture: Architecture, classes: int = 10, size: int = 32) -> int:
    """Returns the multiply-accumulates of a picture."""
    return counts(architecture, classes, size).macs


def vertex_channels(architecture: Architecture, outputs: int) -> tuple[int, ...]:
    """Returns the channels of the five inner vertices of a reduced cell, 0 for padding.

    Those before the output share its channels evenly, the first ones having one more where that does not come out;
    any other has as many as the widest one that it leads to.
    """
    edges = {pair for pair, there in zip(PAIRS, architecture, strict=False) if there}
    last = [vertex for vertex in range(1, VERTICES - 1) if (vertex, VERTICES - 1) in edges]
    found = [0] * VERTICES
    for position, vertex in enumerate(last):
        found[vertex] = outputs // len(last) + (position < outputs % len(last))
    for vertex in reversed(range(1, VERTICES - 1)):
        if vertex not in last:
            found[vertex] = max((found[after] for before, after in edges if before == vertex), default=0)
    return tuple(found[1:-1])


def _cell_counts(architecture: Architecture, inputs: int, outputs: int, size: int) -> Counts:
    found = Counts()
    edges = {pair for pair, there in zip(PAIRS, architecture, strict=False) if there}
    for vertex, channels in enumerate(vertex_channels(architecture, outputs), start=1):
        operation = architecture[len(PAIRS) + vertex - 1]
        if (0, vertex) in edges:
            found += convolution(inputs, channels, 1, size)
        if operation in KERNELS:
            found += convolution(channels, channels, KERNELS[operation], size)
    return found + convolution(inputs, outputs, 1, size) if (0, VERTICES - 1) in edges else found


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
