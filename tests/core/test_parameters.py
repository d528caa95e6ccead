"""Parameters and saved bytes: every tensor once, whatever its type and however often it is named."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.networks import Function, composed, conv, image, random_kept, seeded
from torch import nn

from within.core.cost import ModelBytes, Params
from within.core.graph import trace
from within.core.pruning.slim import slim


def saved_bytes(model: nn.Module) -> int:
    """Bytes of the distinct storages in a state dictionary."""
    tensors = {value.untyped_storage().data_ptr(): value for value in model.state_dict().values()}
    return sum(value.numel() * value.element_size() for value in tensors.values())


@settings(deadline=None, max_examples=6)
@given(model=composed(), seed=st.integers(0, 999))
def test_prediction_is_the_recount_of_the_slim_model(model: nn.Module, seed: int):
    """An axis that the estimate forgets to shrink."""
    graph = trace(model, image())
    assert Params()(graph) == sum(value.numel() for value in model.parameters())
    assert ModelBytes()(graph) == saved_bytes(model)
    kept = random_kept(graph, seed)
    widths = {name: len(atoms) for name, atoms in kept.items()}
    cut = slim(graph, kept)
    assert Params()(graph, widths) == sum(value.numel() for value in cut.parameters())
    assert ModelBytes()(graph, widths) == saved_bytes(cut)


def tied() -> nn.Module:
    model = Function(
        lambda m, x: m.out(m.second(m.first(m.table(x)).relu())),
        table=nn.Embedding(7, 4),
        first=nn.Linear(4, 4),
        second=nn.Linear(4, 4),
        out=nn.Linear(4, 7, bias=False),
    )
    model.out.weight = model.table.weight
    model.second.weight = model.first.weight
    return seeded(model)


@pytest.mark.parametrize("prefer", ["module", "graph"])
def test_tied_tensors_count_once_and_shrink_with_either_name(prefer: str):
    """The trace calls a tied tensor by its last name, the model by its first."""
    graph = trace(tied(), (torch.zeros(1, 3, dtype=torch.long),))
    assert Params()(graph) == 7 * 4 + 4 * 4 + 2 * 4
    (group,) = graph.channel_groups()
    cut = slim(graph, {group.name: [0, 2, 3]}, prefer=prefer)
    assert Params()(graph, {group.name: 3}) == 7 * 3 + 3 * 3 + 2 * 3 == sum(p.numel() for p in cut.parameters())
    assert ModelBytes()(graph, {group.name: 3}) == saved_bytes(cut)


def test_types_count_with_their_own_size():
    """Half precision weights, a double buffer, an integer buffer; what is not saved does not count."""
    model = Function(lambda m, x: m.b(m.a(x)) + m.shift.to(x), a=conv(3, 4).half(), b=conv(4, 2).half())
    model.register_buffer("shift", torch.zeros((), dtype=torch.float64))
    model.register_buffer("steps", torch.zeros(3, dtype=torch.int64))
    model.register_buffer("scratch", torch.zeros(100), persistent=False)
    graph = trace(model, (image()[0].half(),))
    weights = 4 * 3 * 9 + 4 + 2 * 4 * 9 + 2
    assert Params()(graph) == weights
    assert ModelBytes()(graph) == 2 * weights + 8 + 3 * 8


def test_parameters_that_nothing_reads_count():
    """They are in the checkpoint, before and after."""
    model = seeded(Function(lambda m, x: m.b(m.a(x)), a=conv(3, 4), b=conv(4, 2), unused=nn.Linear(5, 6)))
    graph = trace(model, image())
    assert Params()(graph) == sum(value.numel() for value in model.parameters())
    for prefer in ("module", "graph"):
        cut = slim(graph, {"a.weight": [1, 2]}, prefer=prefer)
        assert sum(value.numel() for value in cut.parameters()) == Params()(graph, {"a.weight": 2})
        assert set(cut.state_dict()) == set(model.state_dict())


def test_units_and_names():
    assert (Params().unit, ModelBytes().unit) == ("parameters", "bytes")
