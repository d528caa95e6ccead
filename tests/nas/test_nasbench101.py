"""NAS-Bench-101: padding, reduction and equal cells, on random graphs; and GATES on them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from within.core import Macs, Params, trace
from within.core.errors import WithinError
from within.nas.encoders.gates_node import GatesNodeEncoder
from within.nas.spaces import nasbench101
from within.nas.spaces.nasbench101 import OPERATIONS, SPACE, canonical, from_matrix, reduced, to_matrix


def random_graph(seed):
    """Returns a matrix and operations of 2 to 7 vertices, dead ones among them."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 8))
    matrix = np.triu(generator.random((count, count)) < 0.45, 1).astype(int)
    names = generator.choice(OPERATIONS[:3], size=max(count - 2, 0)).tolist()
    return matrix, ["input", *names, "output"]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000))
def test_numbers_of_inner_vertices_and_dead_ones_do_not_matter(seed):
    matrix, names = random_graph(seed)
    cell = from_matrix(matrix, names)
    assert reduced(reduced(cell)) == reduced(cell)
    assert canonical(reduced(cell)) == canonical(cell)
    generator = np.random.default_rng(seed)
    for _ in range(5):  # an order in which edges still lead forward
        order = [0, *(1 + generator.permutation(len(names) - 2)).tolist(), len(names) - 1]
        moved = matrix[np.ix_(order, order)]
        if not np.tril(moved).any():
            assert canonical(from_matrix(moved, [names[each] for each in order])) == canonical(cell)


def test_a_cell_is_padded_before_its_output():
    cell = from_matrix([[0, 1, 1], [0, 0, 1], [0, 0, 0]], ["input", "maxpool3x3", "output"])
    matrix, operations = to_matrix(cell)
    assert operations == (2, 3, 3, 3, 3)
    assert np.argwhere(matrix).tolist() == [[0, 1], [0, 6], [1, 6]]
    assert SPACE.check(cell) == cell


def test_what_is_no_network():
    nowhere = from_matrix(np.zeros((3, 3)), ["input", "maxpool3x3", "output"])
    assert not nasbench101.is_network(nowhere)
    full = from_matrix(np.triu(np.ones((7, 7)), 1), ["input", *["maxpool3x3"] * 5, "output"])
    assert not nasbench101.is_network(full)  # 21 edges
    with pytest.raises(WithinError, match="leads back"):
        from_matrix([[0, 1], [1, 0]], ["input", "output"])
    with pytest.raises(WithinError, match="no operation 'conv5x5'"):
        from_matrix(np.triu(np.ones((3, 3)), 1), ["input", "conv5x5", "output"])
    with pytest.raises(WithinError, match="2 to 7 vertices"):
        from_matrix(np.zeros((8, 8)), ["input", *["maxpool3x3"] * 6, "output"])


@pytest.mark.parametrize("options", [{}, {"residual": 0, "self_loops": True, "widths": (64,) * 5}, {"residual": 1}])
@pytest.mark.parametrize("output_only", [False, True])
def test_numbers_of_inner_vertices_do_not_matter_to_gates(options, output_only):
    """Nor do padded ones: what is between is the same whatever stands at their places."""
    torch.manual_seed(0)
    encoder = GatesNodeEncoder(output_only=output_only, **options).double().eval()
    found = 0
    for seed in range(200):
        matrix, names = random_graph(seed)
        generator = np.random.default_rng(seed)
        order = [0, *(1 + generator.permutation(len(names) - 2)).tolist(), len(names) - 1]
        moved = matrix[np.ix_(order, order)]
        if np.tril(moved).any() or order == sorted(order):
            continue
        found += 1
        cells = torch.tensor([from_matrix(matrix, names), from_matrix(moved, [names[each] for each in order])])
        with torch.no_grad():
            one, two = encoder(cells)
        assert float((one - two).abs().max()) < 1e-12
    assert found > 10


class Published(nn.Module):
    """The network of a cell, built vertex by vertex from a matrix and names, to count what it does."""

    def __init__(self, matrix, names, stem=128):
        super().__init__()
        self.stem, channels = normalised(3, stem, 3), stem
        self.cells = nn.ModuleList()
        for stack in range(3):
            for place in range(3):
                outputs = stem * 2**stack
                self.cells.append(PublishedCell(np.asarray(matrix), names, channels, outputs))
                channels = outputs
                self.cells[-1].pooled = stack > 0 and place == 0
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x):
        x = self.stem(x)
        for cell in self.cells:
            x = cell(F.max_pool2d(x, 2) if cell.pooled else x)
        return self.classifier(x.mean((2, 3)))


class PublishedCell(nn.Module):
    def __init__(self, matrix, names, inputs, outputs):
        super().__init__()
        self.matrix, last = matrix, len(names) - 1
        ends = [vertex for vertex in range(1, last) if matrix[vertex, last]]
        shares = [len(part) for part in np.array_split(np.arange(outputs), max(len(ends), 1))]  # larger ones first
        widths = dict(zip(ends, shares, strict=False))
        for vertex in range(last - 1, 0, -1):
            if vertex not in widths:
                widths[vertex] = max(widths[after] for after in range(vertex + 1, last) if matrix[vertex, after])
        self.widths, self.last = widths, last
        self.projections = nn.ModuleDict(
            {str(v): normalised(inputs, widths.get(v, outputs), 1) for v in range(1, last + 1) if matrix[0, v]}
        )
        self.operations = nn.ModuleDict()
        for vertex in range(1, last):
            kernel = {"conv1x1-bn-relu": 1, "conv3x3-bn-relu": 3}.get(names[vertex])
            operation = normalised(widths[vertex], widths[vertex], kernel) if kernel else nn.MaxPool2d(3, 1, 1)
            self.operations[str(vertex)] = operation

    def forward(self, x):
        values = {}
        for vertex in range(1, self.last):
            found = [values[v][:, : self.widths[vertex]] for v in range(1, vertex) if self.matrix[v, vertex]]
            if self.matrix[0, vertex]:
                found.append(self.projections[str(vertex)](x))
            values[vertex] = self.operations[str(vertex)](sum(found))
        ends = [values[v] for v in range(1, self.last) if self.matrix[v, self.last]]
        if self.matrix[0, self.last]:
            projected = self.projections[str(self.last)](x)
            return torch.cat(ends, 1) + projected if ends else projected
        return torch.cat(ends, 1)


def normalised(inputs, outputs, kernel):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def reduced_graph(cell):
    """Returns matrix and names without padding."""
    matrix, operations = to_matrix(reduced(cell))
    there = [0, *(vertex for vertex in range(1, 6) if operations[vertex - 1] != nasbench101.NONE), 6]
    names = ["input", *(OPERATIONS[op] for op in operations if op != nasbench101.NONE), "output"]
    return matrix[np.ix_(there, there)], names


def test_the_published_number_of_weights():
    """The Inception-like cell of the official README: trainable_parameters 2694282."""
    edges = ((0, 1), (0, 2), (0, 3), (0, 5), (1, 6), (2, 6), (3, 4), (4, 6), (5, 6))
    matrix = np.zeros((7, 7), int)
    matrix[tuple(zip(*edges, strict=True))] = 1
    convolutions = ["conv1x1-bn-relu", *["conv3x3-bn-relu"] * 3]
    cell = from_matrix(matrix, ["input", *convolutions, "maxpool3x3", "output"])
    assert nasbench101.parameters(cell) == 2_694_282


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1_000_000))
def test_weights_of_a_network_that_is_built(seed):
    cell = SPACE.random(np.random.default_rng(seed))
    with torch.device("meta"):
        network = Published(*reduced_graph(cell))
    assert sum(each.numel() for each in network.parameters()) == nasbench101.parameters(cell)
    assert nasbench101.counts(reduced(cell)) == nasbench101.counts(cell)


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_a_traced_network(seed):
    generator = np.random.default_rng(seed)
    cell = next(each for each in iter(lambda: SPACE.random(generator), None) if to_matrix(reduced(each))[1][2] != 3)
    graph = trace(Published(*reduced_graph(cell)), (torch.zeros(1, 3, 32, 32),))
    assert (Params()(graph), Macs()(graph)) == (nasbench101.parameters(cell), nasbench101.macs(cell))


@pytest.mark.parametrize(("vertices", "different"), [(2, 1), (3, 6), (4, 84), (5, 2441)])
def test_published_numbers_of_different_cells(vertices, different):
    """1 + 6 + 84 + 2,441 + 62,010 + 359,082 = 423,624 cells of 2 to 7 vertices; the first four enumerated here."""
    pairs = list(itertools.combinations(range(vertices), 2))
    found = set()
    for edges in itertools.product((0, 1), repeat=len(pairs)):
        matrix = np.zeros((vertices, vertices), int)
        for pair, there in zip(pairs, edges, strict=True):
            matrix[pair] = there
        names = ["input", *["maxpool3x3"] * (vertices - 2), "output"]
        cell = from_matrix(matrix, names)
        if reduced(cell) != cell or not nasbench101.is_network(cell):
            continue
        for operations in itertools.product(range(3), repeat=vertices - 2):
            found.add(canonical((*cell[:21], *operations, *cell[21 + vertices - 2 :])))
    assert len(found) == different
