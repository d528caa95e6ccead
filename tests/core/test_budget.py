"""Budgets: what they accept, what they resolve to, and what a certificate says."""

from __future__ import annotations

import pytest
from tests.core.networks import Function, conv, image, seeded

from within.core.cost import Budget, Cost, Macs, ModelBytes, Params, PeakMemory
from within.core.cost.budget import achieved
from within.core.errors import WithinError
from within.core.graph import Graph, trace


@pytest.fixture(scope="module")
def graph() -> Graph:
    return trace(seeded(Function(lambda m, x: m.b(m.a(x)), a=conv(3, 4), b=conv(4, 2))), image())


@pytest.mark.parametrize("arguments", [{}, {"limit": 1.0, "fraction": 0.5}])
def test_exactly_one_of_limit_and_fraction(arguments: dict[str, float]):
    """Two limits on one budget contradict each other sooner or later; none is no budget."""
    with pytest.raises(WithinError, match="either a limit or a fraction"):
        Budget(Macs(), **arguments)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["limit", "fraction"])
def test_impossible_numbers_are_refused(value: float, kind: str):
    with pytest.raises(WithinError, match="impossible"):
        Budget(PeakMemory(), **{kind: value})


@pytest.mark.parametrize("cost", [Macs(), Macs("thop_2019"), Params(), ModelBytes(), PeakMemory()])
def test_a_fraction_is_of_the_dense_cost(cost: Cost, graph: Graph):
    assert isinstance(cost, Cost)
    assert Budget(cost, fraction=0.5).resolve(graph) == 0.5 * cost(graph)
    assert Budget(cost, limit=17.0).resolve(graph) == 17.0
    assert cost.name
    assert cost.unit


def test_certificate_recounts_and_compares(graph: Graph):
    """A limit that is met exactly is met."""
    costs = achieved([Budget(Params(), limit=126), Budget(Params(), limit=92)], graph, {"a.weight": 2})
    assert [(item.dense, item.cost, item.met) for item in costs] == [(186.0, 94.0, True), (186.0, 94.0, False)]
    assert [item.unit for item in costs] == ["parameters", "parameters"]
