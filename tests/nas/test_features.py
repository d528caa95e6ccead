"""Graph features: paths enumerated one by one, equal columns of equal cells, and speed on the whole space."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.encoders.cell_genes import CellGenes
from within.nas.features import (
    NASBENCH101_COLUMNS,
    NASBENCH201_COLUMNS,
    cell_graph,
    computed,
    joined,
    looked_up,
    nasbench101_graph,
    nasbench201_graph,
)
from within.nas.paths import EdgeLists, along_paths, live_edges, path_lengths
from within.nas.spaces import nasbench101, nasbench201
from within.nas.tables.table import Table

CELL = CellGenes(((0, 1), (2, 3), (4, 5)), ((6, 7), (8, 9), (10, 11)))


def enumerated(begins, ends, there, nodes, inputs=1):
    """Yields every path as a list of edges."""

    def onward(node, path):
        if node == nodes - 1:
            yield path
        for edge in np.flatnonzero(there & (begins == node)):
            yield from onward(ends[edge], [*path, int(edge)])

    for node in range(inputs):
        yield from onward(node, [])


@settings(max_examples=60)
@given(seed=st.integers(0, 100_000), inputs=st.integers(1, 2))
def test_paths_are_those_that_one_finds_one_by_one(seed, inputs):
    """Edges in any order, twice between the same nodes too, between nodes in any numbers."""
    generator = np.random.default_rng(seed)
    nodes, edges = int(generator.integers(3, 8)), int(generator.integers(1, 14))
    rank = np.array([*range(inputs), *(inputs + generator.permutation(nodes - 1 - inputs)), nodes - 1])
    pairs = np.sort([generator.choice(nodes, 2, replace=False) for _ in range(3 * edges)], axis=1)
    begins, ends = rank[pairs].T.reshape(2, 3, edges)
    there = generator.random((3, edges)) < 0.8
    weights = generator.integers(-2, 3, (3, edges))
    graphs = EdgeLists(nodes, begins, ends, there, inputs)
    live, lengths, sums = live_edges(graphs), path_lengths(graphs), along_paths(graphs, weights)
    for row in range(3):
        paths = list(enumerated(begins[row], ends[row], there[row], nodes, inputs))
        assert set(np.flatnonzero(live[row]).tolist()) == {edge for path in paths for edge in path}
        all_lengths = [len(path) for path in paths] or [0]
        assert [each[row] for each in lengths] == [len(paths), min(all_lengths), max(all_lengths)]
        all_sums = [sum(weights[row, path]) for path in paths] or [0]
        assert [each[row] for each in sums] == [min(all_sums), max(all_sums)]


def test_a_cycle_is_said():
    edges = np.array([[0, 1, 2, 2]]), np.array([[1, 2, 1, 3]])
    with pytest.raises(WithinError, match="A graph has a cycle"):
        path_lengths(EdgeLists(4, *edges, np.ones((1, 4), bool)))


def test_all_cells_of_nasbench201_at_once():
    """Exact against the definitions of the space, equal for equal cells, in under a second."""
    cells = list(nasbench201.SPACE.all())
    started = time.thread_time()
    found = nasbench201_graph(cells)
    assert time.thread_time() - started < 1
    assert found.shape == (15_625, len(NASBENCH201_COLUMNS))
    live = [nasbench201.live(cell) for cell in cells]
    assert np.array_equal(found, nasbench201_graph(live))
    assert np.array_equal(found, nasbench201_graph([nasbench201.canonical(cell) for cell in cells]))
    column = dict(zip(NASBENCH201_COLUMNS, found.T, strict=True))
    assert column["parameters"].tolist() == [nasbench201.parameters(cell) for cell in live]
    assert column["macs"].tolist() == [nasbench201.macs(cell) for cell in live]
    for op, name in enumerate(nasbench201.OPERATIONS[1:], 1):
        assert column[name].tolist() == [cell.count(op) for cell in live]
    for row in range(0, 15_625, 97):
        kinds = np.array(cells[row])
        paths = list(enumerated(*np.array(nasbench201.EDGES).T, kinds != nasbench201.NONE, 4))
        heavy = [sum(op in nasbench201.KERNELS for op in kinds[path]) for path in paths] or [0]
        assert column["paths"][row] == len(paths)
        assert (column["fewest convolutions of a path"][row], column["most convolutions of a path"][row]) == (
            min(heavy),
            max(heavy),
        )


@settings(max_examples=60)
@given(seed=st.integers(0, 100_000))
def test_nasbench101_by_its_paths(seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 8))
    matrix = np.triu(generator.random((count, count)) < 0.5, 1).astype(int)
    names = ["input", *generator.choice(nasbench101.OPERATIONS[:3], size=count - 2).tolist(), "output"]
    cell = nasbench101.from_matrix(matrix, names)
    begins, ends = np.nonzero(matrix)
    paths = list(enumerated(begins, ends, np.ones(len(begins), bool), count))
    vertices = {int(ends[edge]) for path in paths for edge in path} - {count - 1}
    heavy = [sum(names[ends[edge]].startswith("conv") for edge in path) for path in paths] or [0]
    lengths = [len(path) for path in paths] or [0]
    expected = [sum(names[vertex] == each for vertex in vertices) for each in nasbench101.OPERATIONS[:3]]
    expected += [len({edge for path in paths for edge in path}), len(paths), min(lengths), max(lengths)]
    found = nasbench101_graph([cell, nasbench101.reduced(cell)])
    assert found.tolist() == [[*expected, min(heavy), max(heavy)]] * 2
    assert len(NASBENCH101_COLUMNS) == found.shape[1]


def test_a_cell_of_two_slots_by_hand():
    """Node 3 takes node 2 twice, once through nothing; operation 2 is a convolution, 0 carries nothing.

    2 paths lead to node 2, 2 on to node 3, 2 on to node 4 and one there directly; all three lead out.
    """
    features = cell_graph([CELL], 4, convolutions=[2], none=0)
    cell = (2, 1, 3, 0, 2, 2, 0, 1, 2, 2, 3, 0)
    expected = [1, 3, 1, 7, 2, 4, 0, 2]
    assert features([cell])[0].tolist() == expected
    swapped = (1, 2, 0, 3, 2, 2, 1, 0, 2, 2, 0, 3)
    assert np.array_equal(features([swapped]), features([cell]))
    assert np.array_equal(cell_graph([CELL, CELL], 4, convolutions=[2], none=0)([cell])[0], [*expected, *expected])


@settings(max_examples=40)
@given(seed=st.integers(0, 100_000))
def test_numbers_of_inner_nodes_do_not_matter(seed):
    generator = np.random.default_rng(seed)
    kinds = generator.integers(0, 4, (3, 2))
    inputs = np.array([generator.integers(0, node + 2, 2) for node in range(3)])
    number = generator.permutation(3)
    moved = np.empty_like(kinds), np.empty_like(inputs)
    moved[0][number], moved[1][number] = kinds, np.array([0, 1, *(number + 2)])[inputs]
    found = cell_graph([CELL], 4, convolutions=[2, 3], none=0)(
        [(*a.ravel().tolist(), *b.ravel().tolist()) for a, b in ((kinds, inputs), moved)]
    )
    assert np.array_equal(found[0], found[1])


def test_costs_are_columns():
    """On NAS-Bench-201 without dead operations, the same as those of the graph."""
    cells = [cell for cell in list(nasbench201.SPACE.all())[::101] if nasbench201.live(cell) == cell]
    found = computed(nasbench201.parameters, nasbench201.macs)(cells)
    assert np.array_equal(found, nasbench201_graph(cells)[:, -2:])
    assert computed(nasbench201.macs)([]).shape == (0, 1)


def test_columns_of_a_table_are_looked_up():
    cells = [(0,) * 6, (1,) * 6]
    table = Table(nasbench201.SPACE, tuple(cells), {"a": np.array([1.0, 2.0]), "b": np.array([3.0, np.nan])})
    features = joined(looked_up(table, ["b", "a"]), nasbench201.SPACE.one_hot)
    found = features([(1,) * 6, (2,) * 6, (0,) * 6])
    np.testing.assert_array_equal(found[:, :2], [[np.nan, 2], [np.nan, np.nan], [3, 1]])
    assert found.shape == (3, 32)
    with pytest.raises(WithinError, match="no column 'c'"):
        looked_up(table, ["c"])
