"""Concatenations that are never built, or built in place, and views that let go of what they view."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.networks import Function, conv, seeded
from tests.core.transform_cases import assert_same, case, counted, images, predicted
from torch import Tensor, fx, nn

from within.core.transform import concat_elimination, concat_in_place, detached_views
from within.core.transform.editable import editable, kind, writes

MAP = 9 * 7 * 4  # bytes of one channel


def concatenations(module: fx.GraphModule) -> list[str]:
    return [node.name for node in module.graph.nodes if kind(node) == "cat"]


def every_way(function, size: tuple[int, ...] = (3, 9, 7), **modules: nn.Module) -> dict[str, int]:
    """Concatenations left when all of them are rewritten, by each option; outputs and memory are checked."""
    model, inputs = seeded(Function(function, **modules)), images(size)
    plain = editable(model, inputs)
    left = {}
    for option in ("late", "early"):
        module = concat_elimination(plain, inputs, sites=dict.fromkeys(concatenations(plain), option))
        left[option] = len(concatenations(module))
    for option in ("0", "1"):
        module = concat_in_place(plain, inputs, sites=dict.fromkeys(concatenations(plain), option))
        left[option] = len(concatenations(module))
        assert_same(module, model, inputs)
        assert counted(module, inputs) == predicted(module, inputs)
    for option in ("late", "early"):
        module = concat_elimination(plain, inputs, sites=dict.fromkeys(concatenations(plain), option))
        assert_same(module, model, inputs)
        assert counted(module, inputs) == predicted(module, inputs)
    return left


def test_the_sum_of_two_convolutions_takes_less() -> None:
    """8 + 8 + 16 maps at the concatenation become 8 + 8 + 2 + 2 at the second convolution."""

    def function(m, x):
        skip = m.a(x)
        return m.c(torch.cat([m.b(skip), skip], 1))

    model, inputs = seeded(Function(function, a=conv(3, 8), b=conv(8, 8), c=conv(16, 2))), images((3, 9, 7))
    assert counted(editable(model, inputs), inputs) == 32 * MAP
    module = concat_elimination(model, inputs)
    assert counted(module, inputs) == 18 * MAP  # 8 + 8 + 2; then the first part is gone
    assert {name for name, _ in module.named_parameters()} == {name for name, _ in model.named_parameters()}
    assert_same(module, model, inputs)


@pytest.mark.parametrize(
    "between",
    [
        lambda m, y: F.leaky_relu(y, 0.1),
        lambda m, y: m.norm(y),
        lambda m, y: F.max_pool2d(y, 2),
        lambda m, y: F.interpolate(y, scale_factor=2.0, mode="bilinear"),
        lambda m, y: m.depthwise(y),
        lambda m, y: y * torch.sigmoid(y.mean((2, 3), keepdim=True)),
        lambda m, y: y + y.flip(1)[:, :1],
        lambda m, y: y * m.slopes.weight.view(1, -1, 1, 1),
        lambda m, y: torch.cat([y, y[:, :0]], 1),
    ],
)
def test_what_may_stand_between(between) -> None:
    """Would catch an operator that is applied to parts that mixes channels, or with wrong weights."""
    parts = {
        "a": conv(3, 4),
        "b": conv(3, 2),
        "norm": nn.BatchNorm2d(6),
        "depthwise": conv(6, 6, groups=6),
        "slopes": nn.PReLU(6),
        "last": conv(6, 2),
    }
    every_way(lambda m, x: m.last(between(m, torch.cat([m.a(x), F.relu(m.b(x))], 1))), **parts)


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda m, x: (lambda y: (m.c(y), y))(torch.cat([m.a(x), m.b(x)], 1)), 1),  # it is an output
        (lambda m, x: m.c(torch.softmax(torch.cat([m.a(x), m.b(x)], 1), 1)), 1),  # all channels are read at once
        (lambda m, x: m.c(F.group_norm(torch.cat([m.a(x), m.b(x)], 1), 2)), 1),
        (lambda m, x: m.d(torch.cat([m.a(x), m.b(x)], 2)), 1),  # not along channels
        (lambda m, x: m.d(torch.cat([m.a(x), m.b(x)], 0)), 1),
    ],
)
def test_where_the_joined_tensor_is_needed(function, left: int) -> None:
    """Would catch a concatenation removed although a reader needs it whole."""
    found = every_way(function, a=conv(3, 4), b=conv(3, 4), c=conv(8, 2), d=conv(4, 2))
    assert found["late"] == found["early"] == left


def test_parts_that_change_or_repeat() -> None:
    """Would catch a part that is read after the model overwrote it, or copied once for two places."""

    def overwritten(m, x):
        y = m.a(x)
        joined = torch.cat([y, m.b(x)], 1)
        y.mul_(2)
        return m.c(joined) + m.d(y)

    parts = {"a": conv(3, 4), "b": conv(3, 4), "c": conv(8, 2), "d": conv(4, 2)}
    assert every_way(overwritten, **parts)["late"] == 1
    every_way(lambda m, x: (lambda y: m.c(torch.cat([y, y], 1)) + m.d(y))(m.a(x)), **parts)
    every_way(lambda m, x: m.last(torch.cat([x, m.a(x), x], 1)), a=conv(3, 4), last=conv(10, 2))
    every_way(lambda m, x: m.c(F.relu(torch.cat([m.a(x), m.b(x)], 1), inplace=True)), **parts)


class Dense(nn.Module):
    """Layers that each read some of the values before them, joined in random order."""

    def __init__(self, choices: list[list[int]], widths: list[int]) -> None:
        super().__init__()
        self.choices = []
        have = [3]
        self.layers = nn.ModuleList()
        for choice, width in zip(choices, widths, strict=True):
            chosen = [index % len(have) for index in choice]
            self.choices.append(chosen)
            self.layers.append(conv(sum(have[index] for index in chosen), width))
            have.append(width)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for chosen, layer in zip(self.choices, self.layers, strict=True):
            values.append(F.relu(layer(torch.cat([values[index] for index in chosen], 1))))
        return values[-1]


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_concatenations(data: st.DataObject) -> None:
    """Any subset of concatenations, each by any option, after one another."""
    layers = data.draw(st.integers(1, 4))
    choices = data.draw(st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=4), min_size=layers, max_size=layers))
    widths = data.draw(st.lists(st.integers(1, 5), min_size=layers, max_size=layers))
    model, inputs = seeded(Dense(choices, widths)), images((3, 9, 7))
    module = editable(model, inputs)
    for apply, options in ((concat_in_place, ("0", "1")), (concat_elimination, ("late", "early"))):
        names = concatenations(module)
        sites = {name: data.draw(st.sampled_from(options)) for name in names if data.draw(st.booleans())}
        module = apply(module, inputs, sites=sites)
        assert_same(module, model, inputs)
        assert counted(module, inputs) == predicted(module, inputs)


def test_a_dense_block_is_written_once() -> None:
    """All concatenations of a dense block become one buffer and slices of it."""
    model, inputs = case("dense")
    plain = editable(model, inputs)
    module = concat_in_place(plain, inputs, sites=dict.fromkeys(concatenations(plain), "0"))
    assert concatenations(module) == []
    assert sum(kind(node) == "new_empty" for node in module.graph.nodes) == 1
    assert_same(module, model, inputs)


def test_a_slice_lets_the_rest_go() -> None:
    """2 of 8 channels are held meanwhile; a slice of a tensor that is overwritten later is not copied."""

    def function(m, x):
        kept, rest = m.a(x).split([2, 6], 1)
        rest = F.relu(m.c(F.relu(m.b(rest))))
        return m.last(torch.cat([kept, rest], 1))

    parts = {"a": conv(3, 8), "b": conv(6, 8), "c": conv(8, 8), "last": conv(10, 1)}
    model, inputs = seeded(Function(function, **parts)), images((3, 9, 7))
    module = detached_views(model, inputs)
    assert sum(kind(node) == "clone" for node in module.graph.nodes) == 1
    assert counted(module, inputs) < counted(editable(model, inputs), inputs)
    assert_same(module, model, inputs)

    def changed(m, x):
        y = m.a(x)
        kept = y[:, :2]
        z = m.b(y[:, 2:])
        y.mul_(2)
        return kept, m.c(z)

    model = seeded(Function(changed, **parts))
    module = detached_views(model, inputs)
    assert not any(kind(node) == "clone" for node in module.graph.nodes)
    assert any(writes(node) for node in module.graph.nodes)
    assert_same(module, model, inputs)
