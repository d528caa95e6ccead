"""TA-GATES: plain GATES where nothing is updated, equal embeddings of equal cells, and each step written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.encoders.gates_edge import GatesEdgeEncoder
from within.nas.encoders.gates_node import GatesNodeEncoder
from within.nas.encoders.ta_gates_edge import TaGatesEdgeEncoder
from within.nas.encoders.ta_gates_node import TaGatesNodeEncoder
from within.nas.spaces import nasbench101, nasbench201
from within.nas.spaces.nasbench201 import EDGES, NONE, SKIP, SPACE

CONVOLUTIONS = (nasbench201.CONVOLUTION_1, nasbench201.CONVOLUTION_3)
SMALL = {"widths": (24, 20, 16), "backward_widths": (18, 14, 12), "conversion_widths": (10, 11), "update_widths": (9,)}

NODE = {**SMALL, "widths": (14, 12), "backward_widths": (9, 8)}


def encoder(**options):
    torch.manual_seed(0)
    return TaGatesEdgeEncoder(EDGES, 5, CONVOLUTIONS, **{**SMALL, **options}).double().eval()


def node_encoder(**options):
    torch.manual_seed(0)
    found = TaGatesNodeEncoder(**{**NODE, **options}).double().eval()
    with torch.no_grad():
        found.plain.other_nodes.normal_()  # as after training
    return found


def cells(count, seed=0):
    generator = np.random.default_rng(seed)
    return torch.tensor([SPACE.random(generator) for _ in range(count)])


@settings(max_examples=40)
@given(cell=st.tuples(*[st.integers(0, 4)] * 6), steps=st.integers(1, 4), skip=st.sampled_from([None, SKIP]))
def test_equal_cells_get_equal_embeddings(cell, steps, skip):
    """Dead operations and the numbers of the inner nodes do not matter, at any step."""
    model = encoder(time_steps=steps, skip=skip, update_scale=3.0)
    with torch.no_grad():
        found = model.each_step(torch.tensor([cell, nasbench201.live(cell), nasbench201.canonical(cell)]))
    assert found.shape == (steps, 3, 16)
    assert float((found - found[:, :1]).abs().max()) < 1e-10


@pytest.mark.parametrize("options", [{"time_steps": 1}, {"time_steps": 3, "update_scale": 0.0}])
def test_plain_gates_where_nothing_is_updated(options):
    model, plain = encoder(**options), GatesEdgeEncoder(EDGES, 5, widths=SMALL["widths"]).double().eval()
    shared = {name: value for name, value in model.state_dict().items() if name in plain.state_dict()}
    missing, _ = plain.load_state_dict(shared, strict=False)
    assert not [name for name in missing if name in dict(plain.named_parameters())]
    with torch.no_grad():
        torch.testing.assert_close(model(cells(50)), plain(cells(50)), rtol=1e-12, atol=1e-12)


def test_later_steps_differ_where_there_are_parameters():
    model = encoder()
    found = cells(200)
    live = torch.tensor([nasbench201.live(tuple(each)) for each in found.tolist()])
    changing = torch.isin(live, torch.tensor(CONVOLUTIONS)).any(1)
    with torch.no_grad():
        first, second = model.each_step(found)
        torch.testing.assert_close(second, model(found))
    assert torch.equal((first - second).abs().amax(1) > 1e-9, changing)
    assert 0 < int(changing.sum()) < 200


@pytest.mark.parametrize("skip", [None, SKIP])
def test_steps_as_the_equations_say(skip):
    """Each edge by itself, forward and back."""
    model = encoder(skip=skip)

    def flow(x, transforms, gates, embedded, cell, source, backward):
        for number, (transform, gate) in enumerate(zip(transforms, gates, strict=True)):
            out = [
                transform(x[node]) if node == source else torch.zeros(transform.out_features).double()
                for node in range(4)
            ]
            messages = []
            for (before, after), op, vector in zip(EDGES, cell, embedded, strict=True):
                origin, target = (after, before) if backward else (before, after)
                opening = 0.0 if op == NONE else 1.0 if op == skip else torch.sigmoid(gate(vector))
                messages.append(opening * transform(x[origin]))
                out[target] = out[target] + messages[-1]
            x = [torch.relu(each) for each in out] if number < 2 else out
        return x, messages

    with torch.no_grad():
        for cell in cells(8, seed=1).tolist():
            embedded = [model.operations.weight[op] for op in cell]
            begin = [model.start(model.input)] + [model.start(torch.zeros(48).double())] * 3
            first, messages = flow(begin, model.transforms, model.gates, embedded, cell, 0, False)
            nothing = torch.zeros(11).double()
            _, back = flow(
                [nothing] * 3 + [model.conversion(first[3])],
                model.backward_transforms, model.backward_gates, embedded, cell, 3, True,
            )  # fmt: skip
            embedded = [
                vector + (0.1 * model.update(torch.cat([vector, there, again])) if op in CONVOLUTIONS else 0)
                for op, vector, there, again in zip(cell, embedded, messages, back, strict=True)
            ]
            second, _ = flow(begin, model.transforms, model.gates, embedded, cell, 0, False)
            found = model.each_step(torch.tensor([cell]))[:, 0]
            torch.testing.assert_close(found, torch.stack([first[3], second[3]]), rtol=1e-12, atol=1e-12)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 3),
    output_only=st.booleans(),
    residual=st.sampled_from([None, 0, 1]),
)
def test_numbers_of_inner_vertices_do_not_matter(seed, steps, output_only, residual):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(3, 8))
    matrix = np.triu(generator.random((count, count)) < 0.45, 1).astype(int)
    names = ["input", *generator.choice(nasbench101.OPERATIONS[:3], size=count - 2).tolist(), "output"]
    order = [0, *(1 + generator.permutation(count - 2)).tolist(), count - 1]
    moved = matrix[np.ix_(order, order)]
    if np.tril(moved).any():  # an edge would lead back
        moved, order = matrix, list(range(count))
    model = node_encoder(time_steps=steps, output_only=output_only, residual=residual, update_scale=3.0)
    given_cells = [nasbench101.from_matrix(matrix, names), nasbench101.from_matrix(moved, [names[at] for at in order])]
    with torch.no_grad():
        found = model.each_step(torch.tensor(given_cells))
    assert float((found[:, 0] - found[:, 1]).abs().max()) < 1e-10


@pytest.mark.parametrize("options", [{"time_steps": 1}, {"time_steps": 3, "update_scale": 0.0}])
def test_plain_gates_on_vertices_where_nothing_is_updated(options):
    model = node_encoder(**options)
    plain = GatesNodeEncoder(widths=NODE["widths"], residual=1, self_loops=True).double().eval()
    plain.load_state_dict(model.plain.state_dict())
    given_cells = torch.tensor([nasbench101.SPACE.random(np.random.default_rng(seed)) for seed in range(20)])
    with torch.no_grad():
        torch.testing.assert_close(model(given_cells), plain(given_cells), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("residual", "self_loops"), [(1, True), (None, False)])
def test_steps_on_vertices_as_the_equations_say(residual, self_loops):
    """Vertex by vertex, forward and back."""
    model = node_encoder(residual=residual, self_loops=self_loops)

    def passed(x, links, transforms, gates, biases, embedded, first):
        for number, (transform, gate, bias) in enumerate(zip(transforms, gates, biases, strict=True)):
            out = []
            for vertex in range(7):
                arriving = sum((transform(x[other]) for other in range(7) if links[vertex, other]), torch.zeros(1))
                kept = transform(x[vertex]) if residual is None or vertex == first else 0
                out.append(torch.sigmoid(gate(embedded[vertex])) * arriving + bias + kept)
            x = [torch.relu(each) for each in out] if number < len(transforms) - 1 else out
        return x

    plain = model.plain
    for seed in range(4):
        cell = nasbench101.SPACE.random(np.random.default_rng(seed))
        matrix, operations = nasbench101.to_matrix(cell)
        links = matrix.T + self_loops * np.eye(7, dtype=int)
        with torch.no_grad():
            embedded = [torch.zeros(48).double(), *plain.operations.weight[list(operations)], plain.output]
            begin = [plain.start(plain.input_node)] + [plain.start(plain.other_nodes)] * 6
            layers = (plain.transforms, plain.gates, plain.biases)
            first = passed(begin, links, *layers, embedded, 0)
            at_output = [torch.zeros(11).double()] * 6 + [model.conversion(first[6])]
            back = passed(at_output, links.T, model.transforms, model.gates, model.biases, embedded, 6)
            for vertex in range(1, 6):
                if operations[vertex - 1] in (0, 1):
                    seen = torch.cat([embedded[vertex], first[vertex], back[vertex]])
                    embedded[vertex] = embedded[vertex] + 0.1 * model.update(seen)
            second = passed(begin, links, *layers, embedded, 0)
            there = [vertex for vertex in range(1, 7) if vertex == 6 or operations[vertex - 1] != nasbench101.NONE]
            expected = [sum(x[vertex] for vertex in there) / 6 for x in (first, second)]
            found = model.each_step(torch.tensor([cell]))[:, 0]
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [encoder, node_encoder])
def test_noise_is_for_training_alone(make):
    model = make(noise=0.1)
    given_cells = cells(5)
    if make is node_encoder:
        given_cells = torch.tensor([nasbench101.SPACE.random(np.random.default_rng(seed)) for seed in range(5)])
    with torch.no_grad():
        assert torch.equal(model(given_cells), model(given_cells))
        model.train()
        assert not torch.equal(model(given_cells), model(given_cells))


@pytest.mark.parametrize("make", [encoder, node_encoder])
def test_steps_that_cannot_be(make):
    with pytest.raises(WithinError, match="0 time steps"):
        make(time_steps=0)
