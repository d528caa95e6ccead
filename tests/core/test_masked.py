"""The masked reference: dense where nothing is removed, and never a copy of the slim model's own mistakes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.core.networks import Attention, Composed, Function, GroupNormed, LayerNormed, conv, image, seeded
from torch import nn

from within.core.graph import trace
from within.core.pruning.masked import MaskedReference, masked_slim_error
from within.core.pruning.slim import relative_difference, slim


def test_with_everything_kept_it_is_the_model():
    model = seeded(Composed([("Attention", 4), ("UnequalSplit", 3), ("GroupNormed", 4)], "flattened"))
    graph = trace(model, image())
    with torch.no_grad():
        assert torch.equal(MaskedReference(graph, {})(*image())[0], model(*image()))


def test_the_model_is_not_changed():
    """Masks are put on copies."""
    model = seeded(Composed([("Residual", 4)], "pooled"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = trace(model, image())
    MaskedReference(graph, {graph.channel_groups()[0].name: [0]})(*image())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_layer_normalisation_is_over_kept_channels():
    """By hand: mean and variance of the kept features alone."""
    model = seeded(Function(lambda m, x: m.block(m.a(x)), a=conv(3, 5, 1), block=LayerNormed(5, 2)))
    graph = trace(model, image())
    kept = [0, 2, 3]
    features = model.a(*image())[:, kept].permute(0, 2, 3, 1)
    norm, linear = model.block.norm, model.block.linear
    expected = F.layer_norm(features, [3], norm.weight[kept], norm.bias[kept], norm.eps)
    expected = F.gelu(F.linear(expected, linear.weight[:, kept], linear.bias)).permute(0, 3, 1, 2)
    torch.testing.assert_close(MaskedReference(graph, {"a.weight": kept})(*image())[0], expected)


def test_group_normalisation_is_over_kept_channels_of_each_group():
    model = seeded(Function(lambda m, x: m.b(m.block(x)), block=GroupNormed(3, 6), b=conv(6, 2, 1)))
    graph = trace(model, image())
    (group,) = graph.channel_groups()
    kept = [0, 2, 3, 5]  # atoms 0 and 2 of both groups of three
    block = model.block
    features = F.conv2d(*image(), block.conv.weight[kept], block.conv.bias[kept], padding=1)
    features = F.group_norm(features, 2, block.norm.weight[kept], block.norm.bias[kept], block.norm.eps)
    expected = F.conv2d(features, model.b.weight[:, kept], model.b.bias)
    torch.testing.assert_close(MaskedReference(graph, {group.name: [0, 2]})(*image())[0], expected)


def test_narrower_heads_keep_the_dense_scale():
    """The factor 1 / sqrt(head dimension) was trained at the dense dimension."""

    def attend(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).mT
        query, key, value = (layer(tokens)[:, None] for layer in (m.query, m.key, m.value))
        return m.out(F.scaled_dot_product_attention(query, key, value)[:, 0])

    layers = {name: nn.Linear(3, 4) for name in ("query", "key", "value")}
    model = seeded(Function(attend, **layers, out=nn.Linear(4, 2)))
    graph = trace(model, image())
    name = next(group.name for group in graph.channel_groups() if group.name.startswith("query"))
    kept = {name: [1, 3]}
    cut = slim(graph, kept)
    with torch.no_grad():
        tokens = image()[0].flatten(2).mT
        query, key, value = (layer(tokens) for layer in (model.query, model.key, model.value))
        weights = ((query[..., [1, 3]] @ key[..., [1, 3]].mT) / 4**0.5).softmax(-1)
        torch.testing.assert_close(cut(*image()), model.out(weights @ value))
    assert masked_slim_error(graph, kept, cut) < 1e-6


@pytest.mark.parametrize("parameter", ["stem.conv.weight", "blocks.0.second.weight", "last.weight"])
def test_a_slim_model_with_two_channels_exchanged_is_found_out(parameter: str):
    """The comparison is the proof in every certificate, so it has to see a single wrong index."""
    model = seeded(Composed([("Residual", 5)], "pooled"))
    graph = trace(model, image())
    kept = {group.name: list(range(group.size - 1)) for group in graph.channel_groups()}
    cut = slim(graph, kept)
    assert masked_slim_error(graph, kept, cut) < 1e-6
    with torch.no_grad():
        weight = cut.get_parameter(parameter)
        weight.copy_(weight[:, [1, 0, *range(2, weight.shape[1])]])
    assert masked_slim_error(graph, kept, cut) > 1e-3


def test_the_mode_of_the_slim_model_is_put_back():
    model = seeded(Composed([("Attention", 4)], "pooled")).train()
    graph = trace(model, image())
    cut = slim(graph, {graph.channel_groups()[0].name: [0, 1]}).train()
    masked_slim_error(graph, {graph.channel_groups()[0].name: [0, 1]}, cut)
    assert cut.training


def test_relative_difference():
    """Another shape or a value that is not finite is infinitely wrong, not a broadcast or a NaN that compares false."""
    ones = torch.ones(2, 3)
    assert relative_difference(ones, torch.ones(2, 1)) == float("inf")
    assert relative_difference(ones * float("nan"), ones) == float("inf")
    assert relative_difference(ones, ones * float("inf")) == float("inf")
    assert relative_difference(ones * 1.5, ones) == 0.5
    assert relative_difference(ones, torch.zeros(2, 3)) > 1e6
    assert relative_difference(torch.zeros(0), torch.zeros(0)) == 0.0


def test_heads_of_a_fused_projection():
    """Query, key and value in one weight, cut by one head dimension each."""
    model = seeded(Attention(3, 8, heads=2))
    graph = trace(model, image())
    kept = {group.name: [0, 2] for group in graph.channel_groups()}
    assert kept
    assert masked_slim_error(graph, kept, slim(graph, kept)) < 1e-6
