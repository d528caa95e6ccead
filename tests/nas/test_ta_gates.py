"""TA-GATES: plain GATES where nothing is updated, equal embeddings of equal cells, and each step written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.encoders.gates_edge import GatesEdgeEncoder
from within.nas.encoders.ta_gates_edge import TaGatesEdgeEncoder
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import EDGES, NONE, SKIP, SPACE

CONVOLUTIONS = (nasbench201.CONVOLUTION_1, nasbench201.CONVOLUTION_3)
SMALL = {"widths": (24, 20, 16), "backward_widths": (18, 14, 12), "conversion_widths": (10, 11), "update_widths": (9,)}


def encoder(**options):
    torch.manual_seed(0)
    return TaGatesEdgeEncoder(EDGES, 5, CONVOLUTIONS, **{**SMALL, **options}).double().eval()


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


def test_noise_is_for_training_alone():
    model = encoder(noise=0.1)
    given_cells = cells(5)
    with torch.no_grad():
        assert torch.equal(model(given_cells), model(given_cells))
        model.train()
        assert not torch.equal(model(given_cells), model(given_cells))


def test_steps_that_cannot_be():
    with pytest.raises(WithinError, match="0 time steps"):
        encoder(time_steps=0)
