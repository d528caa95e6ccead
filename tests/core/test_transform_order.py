"""The order of execution: least by brute force, never worse than the traced one, never across a write."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.networks import Function, conv, seeded
from tests.core.transform_cases import assert_same, case, counted, images, predicted
from torch import Tensor, fx, nn

from within.core.errors import WithinError
from within.core.transform import in_place, least_order, minimise_order
from within.core.transform.editable import annotate, editable


def all_orders(module: fx.GraphModule) -> list[tuple[str, ...]]:
    """Every order of the nodes that run in which inputs come before their readers."""
    nodes = [node for node in module.graph.nodes if node.op in ("call_function", "call_module")]
    names = {node: node.name for node in nodes}
    found = []
    for order in itertools.permutations(nodes):
        place = {node: position for position, node in enumerate(order)}
        if all(place[source] < place[node] for node in nodes for source in node.all_input_nodes if source in place):
            found.append(tuple(names[node] for node in order))
    return found


class Branches(nn.Module):
    """Values that each read one of those before them; the last two are summed; widths differ."""

    def __init__(self, sources: list[int], widths: list[int]) -> None:
        super().__init__()
        have = [3]
        self.sources = []
        self.layers = nn.ModuleList()
        for first, width in zip(sources, widths, strict=True):
            self.sources.append(first % len(have))
            self.layers.append(nn.Conv2d(have[self.sources[-1]], width, 1))
            have.append(width)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for source, layer in zip(self.sources, self.layers, strict=True):
            values.append(layer(values[source]))
        return sum(value.mean(1, keepdim=True) for value in values[-2:])


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=2, max_size=3))
def test_exact_is_the_least_of_all_orders(layers) -> None:
    """Would catch a search that prunes the best order away, or a peak that no order has."""
    model, inputs = seeded(Branches(*map(list, zip(*layers, strict=True)))), images((3, 5, 7))
    module = editable(model, inputs)
    peaks = {order: predicted(minimise_order(module, inputs, order=order), inputs) for order in all_orders(module)}
    annotate(module, inputs)
    exact, greedy = least_order(module, method="exact"), least_order(module, method="greedy")
    assert exact.exact
    assert exact.peak == peaks[exact.names] == min(peaks.values())
    assert exact.peak <= greedy.peak == peaks[greedy.names] <= predicted(module, inputs)


@pytest.mark.parametrize("method", ["exact", "greedy"])
def test_branches_are_reduced_one_by_one(method: str) -> None:
    """Three wide maps at once become one."""
    model, inputs = case("branches")
    module = minimise_order(model, inputs, method=method)
    assert_same(module, model, inputs, 0)
    assert counted(module, inputs) == predicted(module, inputs) < 0.7 * counted(model, inputs)


@pytest.mark.parametrize("method", ["exact", "greedy"])
@pytest.mark.parametrize("name", ["written", "branches", "shared", "curves"])
def test_readers_stay_before_the_write_that_changes_what_they_read(name: str, method: str) -> None:
    """Would catch an order that is legal by the edges of the graph and wrong by its storages."""
    model, inputs = case(name)
    module = minimise_order(in_place(model, inputs, differentiable=False), inputs, method=method)
    assert_same(module, model, inputs, 0)


def test_a_write_through_another_view_is_a_conflict() -> None:
    """The read of `first` and the write to `second` share no edge."""

    def function(m, x):
        y = m.a(x)
        first, second = y[:, :3], y[:, 1:]
        read = m.b(first)
        second.mul_(3)
        return m.wide(read).mean(1) + m.b(second).mean(1) + F.relu(first).mean(1)

    model = seeded(Function(function, a=conv(3, 4), b=conv(3, 2), wide=conv(2, 9)))
    inputs = images((3, 6, 5))
    for method in ("exact", "greedy"):
        assert_same(minimise_order(model, inputs, method=method), model, inputs, 0)


def test_orders_of_other_models_are_refused() -> None:
    """Would catch a wrong or partial order applied in silence."""
    model, inputs = case("branches")
    names = list(least_order(editable(model, inputs)).names)
    with pytest.raises(WithinError, match="every node"):
        minimise_order(model, inputs, order=names[1:])
    with pytest.raises(WithinError, match="before it exists"):
        minimise_order(model, inputs, order=names[::-1])


def test_random_operators_keep_their_order() -> None:
    """Would catch dropout that draws other numbers in training because its place changed."""
    model = seeded(Function(lambda m, x: m.b(F.relu(m.a(x))) + torch.sigmoid(x[:, :2]), a=conv(3, 9), b=conv(9, 2)))
    module = minimise_order(model, images((3, 6, 5)))
    assert_same(module, model, images((3, 6, 5)), 0)
