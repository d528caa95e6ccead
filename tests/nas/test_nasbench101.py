"""NAS-Bench-101: padding, reduction and equal cells, on random graphs; and GATES on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
