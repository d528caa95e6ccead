"""GATES on cells of several slots: what does not matter does not, and the layer equations edge by edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.encoders.cell_genes import CellGenes
from within.nas.encoders.gates_multi_edge import GatesMultiEdgeEncoder

OPERATIONS, NONE = 5, 0


def layout(nodes, cells=1):
    """Returns cells whose operations come before their inputs, node by node, as the table of NASNet cells has them."""
    found = []
    for cell in range(cells):
        genes = np.arange(4 * nodes).reshape(2, nodes, 2) + 4 * nodes * cell
        found.append(CellGenes(*(tuple(map(tuple, each.tolist())) for each in genes)))
    return tuple(found)


def random_cells(generator, nodes, cells):
    """Returns operations and inputs, each (cells, nodes, 2)."""
    inputs = np.array([[generator.integers(0, node + 2, 2) for node in range(nodes)] for _ in range(cells)])
    return generator.integers(0, OPERATIONS, (cells, nodes, 2)), inputs


def genes(operations, inputs):
    return np.stack([operations, inputs], axis=1).ravel().tolist()


def encoder(nodes, cells, **options):
    torch.manual_seed(0)
    found = GatesMultiEdgeEncoder(layout(nodes, cells), OPERATIONS, none=NONE, widths=(24, 16, 16), **options)
    with torch.no_grad():
        found.others.normal_()  # as after training
    return found.double().eval()


def encoded(model, *cells):
    with torch.no_grad():
        return model(torch.tensor(cells))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    nodes=st.integers(1, 7),
    cells=st.integers(1, 2),
    residual=st.sampled_from([None, 0, 2]),
)
def test_slots_numbers_and_dead_operations_do_not_matter(seed, nodes, cells, residual):
    generator = np.random.default_rng(seed)
    operations, inputs = random_cells(generator, nodes, cells)
    swap = generator.integers(0, 2, (cells, nodes, 1)).astype(bool)
    swapped = [np.where(swap, each[:, :, ::-1], each) for each in (operations, inputs)]
    dead = np.where(operations == NONE, generator.integers(0, nodes + 2, inputs.shape), inputs)
    new_number = generator.permutation(nodes)
    table = np.array([0, 1, *(new_number + 2)])
    moved = [np.empty_like(operations), np.empty_like(inputs)]
    moved[0][:, new_number], moved[1][:, new_number] = operations, table[inputs]
    given_cells = [genes(operations, inputs), genes(*swapped), genes(operations, dead), genes(*moved)]
    one, *others = encoded(encoder(nodes, cells, residual=residual), *given_cells)
    for each in others:
        assert float((one - each).abs().max()) < 1e-12


def test_everything_else_matters():
    """One operation or one input changed gives another embedding, unless the slot carries nothing or is the same."""
    model, generator = encoder(4, 2), np.random.default_rng(0)
    for _ in range(20):
        operations, inputs = random_cells(generator, 4, 2)
        other_op, other_in = operations.copy(), inputs.copy()
        cell, slot = generator.integers(2), generator.integers(2)
        other_op[cell, 3, slot] = (operations[cell, 3, slot] + 1) % OPERATIONS
        other_in[cell, 3, slot] = (inputs[cell, 3, slot] + 1) % 5
        found = encoded(
            model, *(genes(*each) for each in ((operations, inputs), (other_op, inputs), (operations, other_in)))
        )
        assert float((found[0] - found[1]).abs().max()) > 1e-6
        assert (float((found[0] - found[2]).abs().max()) > 1e-6) == (operations[cell, 3, slot] != NONE)


@pytest.mark.parametrize("options", [{}, {"residual": None}, {"add_slots": True, "residual": 0}])
@pytest.mark.parametrize(("nodes", "cells"), [(7, 1), (4, 2)])
def test_layers_as_the_equations_say(nodes, cells, options):
    """Each edge by itself: a message from one node, through the gate of its operation."""
    model, generator = encoder(nodes, cells, **options), np.random.default_rng(1)
    residual = options.get("residual", 2)
    for _ in range(3):
        operations, inputs = random_cells(generator, nodes, cells)
        expected = []
        with torch.no_grad():
            for cell in range(cells):
                x = [model.start(each) for each in (*model.inputs[cell], *[model.others[cell, 0]] * nodes)]
                for number, (transform, gate) in enumerate(zip(model.transforms, model.gates, strict=True)):
                    out = []
                    for node in range(nodes + 2):
                        kept = residual is None or node < residual
                        value = transform(x[node]) if kept else torch.zeros(transform.out_features).double()
                        for slot in range(2):
                            if node >= 2 and (op := operations[cell, node - 2, slot]) != NONE:
                                message = torch.sigmoid(gate(model.operations.weight[op])) * transform(
                                    x[inputs[cell, node - 2, slot]]
                                )
                                value = value + message * (1 if options.get("add_slots") else 0.5)
                        out.append(value)
                    x = [torch.relu(each) for each in out] if number < 2 else out
                expected.append(torch.stack(x[2:]).mean(0))
        found = encoded(model, genes(operations, inputs))[0]
        torch.testing.assert_close(found, torch.cat(expected), rtol=1e-12, atol=1e-12)
        assert found.shape == (model.embedding_width,)


def test_nothing_is_learned_for_the_operation_that_carries_nothing():
    model = encoder(3, 1)
    model(torch.tensor([genes(*random_cells(np.random.default_rng(0), 3, 1))])).sum().backward()
    assert not model.operations.weight[NONE].any()
    assert not model.operations.weight.grad[NONE].any()
    assert model.operations.weight.grad.any()


def test_cells_that_cannot_be():
    one, two = layout(3)[0], layout(4)[0]
    for cells in ((one, two), ()):
        with pytest.raises(WithinError, match="different numbers of nodes"):
            GatesMultiEdgeEncoder(cells, OPERATIONS)
    for shapes in ((one.operations, one.inputs[:2]), (((0, 1), (2,)), ((3, 4), (5,))), ((), ())):
        with pytest.raises(WithinError, match="different numbers of slots"):
            CellGenes(*shapes)
