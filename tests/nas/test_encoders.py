"""Encoders: published sizes, equal embeddings of equal cells, and the layer equations written out edge by edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.nas.encoders.gates_edge import GatesEdgeEncoder
from within.nas.encoders.gcn import GcnEdgeEncoder
from within.nas.encoders.sequence import LstmEncoder, MlpEncoder
from within.nas.predictor import Predictor
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import EDGES, SPACE


@pytest.fixture(scope="module")
def gates():
    torch.manual_seed(0)
    return GatesEdgeEncoder(EDGES, 5).double().eval()


def encoded(encoder, *cells):
    with torch.no_grad():
        return encoder(torch.tensor(cells))


def test_published_size():
    """514,425 with the fixed zeros of the other nodes, which are no parameters here."""
    predictor = Predictor(GatesEdgeEncoder(EDGES, 5))
    assert sum(each.numel() for each in predictor.parameters()) + 48 == 514_425


@settings(max_examples=60, deadline=None)
@given(cell=st.tuples(*[st.integers(0, 4)] * 6))
def test_equal_cells_get_equal_embeddings(gates, cell):
    """Dead operations and the numbers of the inner nodes do not matter."""
    one, two, three = encoded(gates, cell, nasbench201.live(cell), nasbench201.canonical(cell))
    assert float((one - two).abs().max()) < 1e-12
    assert float((one - three).abs().max()) < 1e-12


def test_different_cells_get_different_embeddings(gates):
    generator = np.random.default_rng(0)
    cells = sorted({nasbench201.canonical(SPACE.random(generator)) for _ in range(200)})
    distances = torch.cdist(*(encoded(gates, *cells),) * 2) + torch.eye(len(cells))
    assert float(distances.min()) > 1e-9


def test_gates_as_the_equations_say(gates):
    """Each gate computed at its own edge, each node by itself."""
    generator = np.random.default_rng(1)
    for _ in range(10):
        cell = SPACE.random(generator)
        with torch.no_grad():
            x = [gates.start(gates.input)] + [gates.start(torch.zeros(48, dtype=torch.float64))] * 3
            for number, (transform, gate) in enumerate(zip(gates.transforms, gates.gates, strict=True)):
                out = [transform(x[0])] + [torch.zeros(128, dtype=torch.float64)] * 3
                for (before, after), op in zip(EDGES, cell, strict=True):
                    if op != nasbench201.NONE:
                        out[after] = out[after] + torch.sigmoid(gate(gates.operations.weight[op])) * transform(
                            x[before]
                        )
                x = [torch.relu(each) for each in out] if number < 4 else out
        torch.testing.assert_close(encoded(gates, cell)[0], x[3])


@pytest.mark.parametrize(
    "encoder",
    [MlpEncoder(6), LstmEncoder([5] * 6), LstmEncoder([5, 3, 5, 3, 5, 3]), GcnEdgeEncoder(EDGES, 5),
     GcnEdgeEncoder(EDGES, 5, global_node=True), GatesEdgeEncoder(EDGES, 5)],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_embeddings_are_of_each_architecture_alone(encoder):
    cells = torch.randint(0, 3, (9, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = encoder(cells)
        assert together.shape == (9, encoder.embedding_width)
        for number in range(9):
            torch.testing.assert_close(encoder(cells[number : number + 1])[0], together[number], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("values", [[5] * 6, [2, 3, 4, 2], [7, 7]])
def test_beginnings_read_once_are_read_as_by_torch(values):
    encoder = LstmEncoder(values, width=9).double()
    generator = torch.Generator().manual_seed(0)
    cells = torch.stack([torch.randint(0, count, (60,), generator=generator) for count in values], dim=1)
    tokens = torch.stack([encoder.tokens[str(count)](cells[:, at]) for at, count in enumerate(values)], dim=1)
    torch.testing.assert_close(encoder(cells), encoder.recurrent(tokens)[1][0][0])
    encoder(cells).square().sum().backward()
    found = {name: each.grad.clone() for name, each in encoder.named_parameters()}
    encoder.zero_grad()
    encoder.recurrent(tokens)[1][0][0].square().sum().backward()
    for name, each in encoder.named_parameters():
        torch.testing.assert_close(found[name], each.grad)
