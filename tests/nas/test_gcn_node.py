"""Baseline encoders on NAS-Bench-101: the published numbers of inputs and tokens, and the GCN as matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.encoders.gcn_node import GcnNodeEncoder
from within.nas.encoders.sequence import LstmEncoder, MlpEncoder
from within.nas.spaces.nasbench101 import NONE, OPERATIONS, SPACE, from_matrix, to_matrix

WIDTHS = (12, 10, 8)
OPTIONS = (
    {}, {"global_node": True}, {"self_loops": False}, {"normalised": True}, {"global_node": True, "normalised": True},
    {"last_only": True}, {"last_only": True, "global_node": True},
)  # fmt: skip


def random_cell(generator, count=None):
    count = count or int(generator.integers(2, 8))
    matrix = np.triu(generator.random((count, count)) < 0.5, 1).astype(int)
    names = generator.choice(OPERATIONS[:NONE], size=count - 2).tolist()
    return matrix, ["input", *names, "output"]


def encoder(**options):
    torch.manual_seed(0)
    found = GcnNodeEncoder(widths=WIDTHS, **options).double().eval()
    with torch.no_grad():
        for each in (found.output, found.virtual):
            if each is not None:
                each.normal_()  # as after training
    return found


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layers_as_the_equations_say(options):
    """One cell at a time, without padding: matrices of as many rows as the cell has vertices."""
    model, generator = encoder(**options), np.random.default_rng(0)
    with_global = "global_node" in options
    for _ in range(12):
        matrix, names = random_cell(generator)
        count = len(names)
        links = np.zeros((count + with_global,) * 2)
        links[:count, :count] = matrix.T
        if with_global:
            links[count, :count] = 1
        if options.get("self_loops", True):
            links += np.eye(len(links))
        if options.get("normalised"):
            links = links / np.sqrt(np.outer(links.sum(1), links.sum(1)))
        a = torch.tensor(links)
        with torch.no_grad():
            rows = [model.input, *(model.operations.weight[OPERATIONS.index(each)] for each in names[1:-1])]
            x = torch.stack([*rows, model.output, *([model.virtual] if with_global else [])])
            x = x @ model.start.weight.T + model.start.bias
            for number, layer in enumerate(model.layers):
                x = a @ x @ layer.weight.T + layer.bias
                x = torch.relu(x) if number < len(WIDTHS) - 1 else x
            expected = x[-1] if options.get("last_only") else x[1:].sum(0) / (6 + with_global)
            found = model(torch.tensor([from_matrix(matrix, names)]))[0]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(seed=st.integers(0, 100_000), number=st.integers(0, len(OPTIONS) - 1))
def test_numbers_of_inner_vertices_do_not_matter(seed, number):
    generator = np.random.default_rng(seed)
    matrix, names = random_cell(generator)
    order = [0, *(1 + generator.permutation(len(names) - 2)).tolist(), len(names) - 1]
    moved = matrix[np.ix_(order, order)]
    if np.tril(moved).any():  # an edge would lead back
        return
    cells = [from_matrix(matrix, names), from_matrix(moved, [names[each] for each in order])]
    with torch.no_grad():
        one, two = encoder(**OPTIONS[number])(torch.tensor(cells))
    assert float((one - two).abs().max()) < 1e-12


def test_degrees_of_vertices_that_nothing_enters():
    with pytest.raises(WithinError, match="no degree"):
        GcnNodeEncoder(normalised=True, self_loops=False)


def test_perceptron_reads_26_numbers_as_they_are():
    generator = np.random.default_rng(0)
    cells = [from_matrix(*random_cell(generator)) for _ in range(5)]
    encoder = MlpEncoder(len(SPACE.genes))
    assert encoder.layers[0].in_features == 26
    with torch.no_grad():
        x = np.array(cells, dtype=np.float32)
        for layer in encoder.layers:
            x = np.maximum(x @ layer.weight.numpy().T + layer.bias.numpy(), 0)
        found = encoder(torch.tensor(cells))
    np.testing.assert_allclose(found, x, atol=1e-5)
    matrix, operations = to_matrix(cells[0])
    assert cells[0] == (*matrix[np.triu_indices(7, 1)], *operations)


def test_lstm_reads_21_connections_and_then_5_operations():
    encoder = LstmEncoder([len(gene.values) for gene in SPACE.genes])
    assert {name: tuple(table.weight.shape) for name, table in encoder.tokens.items()} == {"2": (2, 100), "4": (4, 100)}
    cell = from_matrix(*random_cell(np.random.default_rng(1), 6))
    assert len(cell) == 26
    hidden = carried = torch.zeros(100)
    recurrent = encoder.recurrent
    with torch.no_grad():
        for place, value in enumerate(cell):
            token = encoder.tokens["2" if place < 21 else "4"].weight[value]
            gates = recurrent.weight_ih_l0 @ token + recurrent.weight_hh_l0 @ hidden
            into, forget, new, out = (gates + recurrent.bias_ih_l0 + recurrent.bias_hh_l0).chunk(4)
            carried = torch.sigmoid(forget) * carried + torch.sigmoid(into) * torch.tanh(new)
            hidden = torch.sigmoid(out) * torch.tanh(carried)
        torch.testing.assert_close(encoder(torch.tensor([cell]))[0], hidden, atol=1e-5, rtol=1e-4)
