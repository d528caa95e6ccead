"""Multiply-accumulates: torch's own counter, counts by hand for each convention, and a recount after cutting."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.networks import Attention, Function, composed, conv, image, random_kept, seeded
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from within.core.cost import Macs
from within.core.cost.macs import CONVENTIONS
from within.core.graph import trace
from within.core.pruning.slim import slim


def counted(model: nn.Module, *inputs: torch.Tensor) -> dict[str, int]:
    graph = trace(seeded(model), inputs or image())
    return {convention: Macs(convention)(graph) for convention in ("exact", "output_size", "thop_2019")}


@settings(deadline=None, max_examples=12)
@given(model=composed(), batch=st.integers(1, 2))
def test_exact_is_half_of_the_flops_that_torch_counts(model: nn.Module, batch: int):
    """Groups, strides, transposed convolutions, attention, linear layers on any number of axes."""
    inputs = image(batch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    assert 2 * Macs()(trace(model, inputs)) == counter.get_total_flops()


def test_scaled_dot_product_attention_counts_both_products():
    """(batch x heads x queries x keys) x (width of keys + width of values)."""
    model = Function(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v))
    query, key, value = torch.rand(2, 3, 5, 4), torch.rand(2, 3, 7, 4), torch.rand(2, 3, 7, 6)
    assert counted(model, query, key, value)["exact"] == 2 * 3 * 5 * 7 * (4 + 6)


def test_einsum_of_two_and_of_three_operands():
    """Three operands are two products: torch multiplies from the left."""
    two = Function(lambda m, x, y: torch.einsum("bnc,bmc->bnm", x, y))
    assert counted(two, torch.rand(2, 3, 5), torch.rand(2, 4, 5))["exact"] == 2 * 3 * 4 * 5
    three = Function(lambda m, x, y, z: torch.einsum("ab,bc,cd->ad", x, y, z))
    assert counted(three, torch.rand(2, 3), torch.rand(3, 4), torch.rand(4, 5))["exact"] == 2 * 3 * 4 + 2 * 4 * 5


def test_recurrent_layer_counts_every_step_and_matrix():
    model = Function(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(3, 5, num_layers=2))
    assert counted(model, torch.rand(7, 2, 3))["exact"] == 7 * 2 * 4 * 5 * (3 + 5 + 5 + 5)


def test_addmm_and_matmul_with_a_parameter_count_alike():
    model = Function(lambda m, x: torch.addmm(m.bias, x, m.weight))
    model.weight, model.bias = nn.Parameter(torch.rand(3, 5)), nn.Parameter(torch.rand(5))
    assert counted(model, torch.rand(4, 3))["exact"] == 4 * 3 * 5


def test_transposed_convolution_by_convention():
    """exact: input positions x kernel; by output size: four times as many positions at stride two."""
    model = Function(lambda m, x: m.up(x), up=nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1, output_padding=1))
    positions = 8 * 8
    assert counted(model) == {
        "exact": positions * 3 * 5 * 9,
        "output_size": 4 * positions * 3 * 5 * 9,
        "thop_2019": 4 * positions * 5 * (3 * 9 + 1),  # one more an output element for the bias
    }


def test_grouped_transposed_convolution_by_convention():
    model = Function(
        lambda m, x: m.up(m.a(x)), a=conv(3, 4, 1), up=nn.ConvTranspose2d(4, 6, 2, 2, groups=2, bias=False)
    )
    found = counted(model)
    assert found["exact"] == 64 * 3 * 4 + 64 * 4 * 3 * 4
    assert found["output_size"] == 64 * 3 * 4 + 256 * 6 * 2 * 4


def test_thop_counts_bias_and_batch_normalisation_and_no_products():
    """Two an output element of every batch normalisation; instance normalisation was unknown to it."""
    layers = {"a": conv(3, 4), "norm": nn.BatchNorm2d(4), "instance": nn.InstanceNorm2d(4)}
    model = Function(lambda m, x: m.instance(m.norm(m.a(x))), **layers)
    assert counted(model)["thop_2019"] == 64 * 4 * (27 + 1) + 2 * 64 * 4
    attention = Attention(3, 4)
    linear = 64 * (3 * 3 * 2 * 2) + 64 * (2 * 2 * 3)
    products = 2 * (2 * 64 * 64 * 2)
    assert counted(attention)["thop_2019"] == linear
    assert counted(attention)["exact"] == linear + products


def test_by_kind_and_by_operator_add_up():
    graph = trace(seeded(Attention(3, 4)), image())
    total = Macs()(graph)
    assert sum(Macs().by_kind(graph).values()) == sum(Macs().by_operator(graph).values()) == total
    assert set(Macs().by_kind(graph)) == {"linear", "matmul"}


def test_names_tell_the_convention():
    """Two numbers of different conventions must not look alike in a report."""
    assert [Macs().name, Macs("thop_2019").name] == ["MACs", "MACs (thop_2019)"]


@settings(deadline=None, max_examples=6)
@given(model=composed(), seed=st.integers(0, 999))
def test_widths_by_name_or_by_vector_count_alike(model: nn.Module, seed: int):
    """(That the prediction under widths is the count of the slim model: test_random_networks.)"""
    graph = trace(model, image())
    widths = {name: len(atoms) for name, atoms in random_kept(graph, seed).items()}
    for convention in CONVENTIONS:
        assert Macs(convention)(graph, graph.width_vector(widths)) == Macs(convention)(graph, widths)
        assert Macs(convention)(graph) == Macs(convention)(graph, {})


def test_channels_mixed_by_position_are_counted_dense():
    """ECA: the slim model puts zeros back before the convolution along channels, and so it is priced."""
    model = Function(
        lambda m, x: m.out(
            m.a(x) * torch.sigmoid(m.eca(m.a(x).mean((2, 3)).unsqueeze(1))).squeeze(1)[:, :, None, None]
        ),
        a=conv(3, 8),
        eca=nn.Conv1d(1, 1, 3, padding=1, bias=False),
        out=conv(8, 2),
    )
    graph = trace(seeded(model), image())
    kept = {"a.weight": [0, 3, 4]}
    assert Macs().by_kind(graph, {"a.weight": 3})["conv1d"] == 8 * 3
    assert Macs()(graph, {"a.weight": 3}) == Macs()(trace(slim(graph, kept), image()))
