"""Cutting: plain modules with attributes that agree, graph modules that behave like modules, and refusals."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.core.networks import Composed, ConvNorm, Function, conv, image, random_kept, seeded
from torch import nn

from within.core.errors import WithinError
from within.core.graph import trace
from within.core.pruning.masked import masked_slim_error
from within.core.pruning.slim import kept_positions, slim


def halves(graph) -> dict[str, list[int]]:
    return random_kept(graph, 0, fraction=0.5)


def test_a_plain_module_is_the_users_own_class_with_smaller_layers():
    model = seeded(Composed([("Residual", 6), ("Depthwise", 4), ("SqueezeExcite", 4)], "pooled"))
    graph = trace(model, image())
    cut = slim(graph, halves(graph))
    assert type(cut) is Composed
    for name, module in cut.named_modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            assert (module.out_channels, module.in_channels // module.groups) == tuple(weight.shape[:2]), name
        elif isinstance(module, nn.BatchNorm2d):
            assert module.num_features == len(module.running_mean) == len(module.weight), name
        elif isinstance(module, nn.Linear):
            assert (module.out_features, module.in_features) == tuple(module.weight.shape), name
    assert cut.blocks[1].conv.groups == cut.blocks[1].conv.in_channels
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("layers", "run", "attribute", "value"),
    [
        ({"a": conv(3, 6), "n": nn.GroupNorm(2, 6), "b": conv(6, 2)}, lambda m, x: m.b(m.n(m.a(x))), "num_channels", 4),
        ({"a": conv(3, 6), "n": nn.PReLU(6), "b": conv(6, 2)}, lambda m, x: m.b(m.n(m.a(x))), "num_parameters", 3),
        (
            {"a": nn.Linear(8, 6), "n": nn.LayerNorm(6), "b": nn.Linear(6, 2)},
            lambda m, x: m.b(m.n(m.a(x))),
            "normalized_shape",
            (3,),
        ),
        (
            {"a": conv(3, 6), "n": nn.ConvTranspose2d(6, 5, 2, 2, groups=1), "b": conv(5, 2)},
            lambda m, x: m.b(m.n(m.a(x))),
            "in_channels",
            3,
        ),
        ({"a": nn.Linear(8, 6), "n": nn.LSTM(6, 5), "b": nn.Linear(5, 2)}, lambda m, x: m.b(m.n(m.a(x[0]))[0]),
         "input_size", 3),
    ],
)  # fmt: skip
def test_size_attributes_of_layers_follow(layers, run, attribute: str, value: object):
    """A layer whose attribute says another size than its weight: repr, export and re-creation would be wrong."""
    model = seeded(Function(run, **layers))
    graph = trace(model, image())
    kept = {"a.weight": [0, 2, 4]} if attribute != "num_channels" else {"a.weight": [0, 2]}
    cut = slim(graph, kept)
    assert not isinstance(cut, torch.fx.GraphModule)
    assert getattr(cut.n, attribute) == value
    assert masked_slim_error(graph, kept, cut) < 1e-5


def sized() -> nn.Module:
    """A forward that holds a width as a Python number, so that no plain module can be right."""
    model = Function(
        lambda m, x: m.b(F.dropout(m.a(x), 0.5, m.training).view(-1, 2, 4, 8, 8).sum(1)), a=ConvNorm(3, 8), b=conv(4, 2)
    )
    return seeded(model)


def test_a_hard_coded_size_gives_a_graph_module_with_the_same_names():
    model = sized()
    graph = trace(model, image())
    kept = halves(graph)
    cut = slim(graph, kept)
    assert isinstance(cut, torch.fx.GraphModule)
    assert set(cut.state_dict()) == set(model.state_dict())
    assert masked_slim_error(graph, kept, cut) < 1e-5


def test_a_graph_module_trains_and_evaluates_as_the_module_did():
    """Batch statistics move in training mode only, and it takes any batch and size."""
    model = sized()
    cut = slim(trace(model, image()), {})
    cut = slim(trace(model, image()), halves(trace(model, image())), prefer="graph")
    statistics = cut.get_buffer("a.norm.running_mean").clone()
    cut.eval()(torch.rand(3, 3, 8, 8))
    assert torch.equal(statistics, cut.get_buffer("a.norm.running_mean"))
    cut.train()(torch.rand(3, 3, 8, 8)).square().mean().backward()
    assert not torch.equal(statistics, cut.get_buffer("a.norm.running_mean"))
    assert all(parameter.grad is not None for parameter in cut.parameters())
    free = slim(trace(seeded(Composed([("Residual", 4)], "image")), image()), {}, prefer="graph")
    assert free(torch.rand(2, 3, 11, 13)).shape == (2, 2, 11, 13)


@pytest.mark.parametrize("prefer", ["module", "graph"])
def test_the_dense_model_is_left_alone(prefer: str):
    model = seeded(Composed([("Residual", 5)], "pooled"))
    before = copy.deepcopy(model.state_dict())
    graph = trace(model, image())
    cut = slim(graph, halves(graph), prefer=prefer)
    with torch.no_grad():
        for parameter in cut.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_frozen_parameters_stay_frozen():
    """Fine-tuning a cut model must not train what the user had frozen."""
    for build in (lambda: seeded(Composed([("Residual", 5)], "pooled")), sized):
        model = build()
        next(iter(model.parameters())).requires_grad_(False)
        graph = trace(model, image())
        cut = slim(graph, halves(graph))
        wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        assert {name: parameter.requires_grad for name, parameter in cut.named_parameters()} == wanted


def test_cutting_twice_is_cutting_once():
    """Kept indices compose."""
    model = seeded(Composed([("Residual", 6), ("Concatenated", 4)], "flattened"))
    graph = trace(model, image())
    first = {group.name: list(range(group.size))[1:] for group in graph.channel_groups()}
    middle = slim(graph, first)
    again = trace(middle, image())
    second = {group.name: list(range(group.size))[:-1] for group in again.channel_groups()}
    sizes = {group.name: group.size for group in graph.channel_groups()}
    if set(second) == set(first):
        direct = slim(graph, {name: list(range(size))[1:-1] for name, size in sizes.items()})
        torch.testing.assert_close(slim(again, second)(*image()), direct(*image()))
    assert set(second) == set(first)


@pytest.mark.parametrize("atoms", [[], [0, 0], [-1], [6], [0, 1, 2, 3, 4, 5, 6]])
def test_impossible_choices_are_refused(atoms: list[int]):
    """An empty layer, a channel twice, a channel that does not exist."""
    graph = trace(seeded(Composed([("Residual", 6)], "pooled", stem=6)), image())
    name = graph.channel_groups()[0].name
    with pytest.raises(WithinError, match="1 to 6 distinct numbers"):
        slim(graph, {name: atoms})
    with pytest.raises(WithinError, match="no channel group named"):
        slim(graph, {"nothing": [0]})


def test_kept_positions_are_indices_of_the_dense_parameters():
    """Every slim tensor is the dense one at the recorded positions, so that indices can be followed over rounds."""
    model = seeded(Composed([("Grouped", 6), ("Concatenated", 4)], "flattened"))
    graph = trace(model, image())
    kept = halves(graph)
    record, dense = kept_positions(graph, graph.keep_masks(kept)), model.state_dict()
    for name, tensor in slim(graph, kept).state_dict().items():
        expected = dense[name]
        for axis, positions in record.get(name, {}).items():
            expected = expected.index_select(axis, torch.tensor(positions))
        assert torch.equal(tensor, expected), name


def test_a_branch_that_starts_at_zero_does_not_hide_a_wrong_form():
    """With the last scale of a branch at zero any plain module would seem right; the choice must not depend on it."""
    model = sized()
    model.a.norm.weight.data.zero_()
    model.a.norm.bias.data.zero_()
    graph = trace(model, image())
    assert isinstance(slim(graph, halves(graph)), torch.fx.GraphModule)
