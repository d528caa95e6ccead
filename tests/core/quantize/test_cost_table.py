"""Cost tables: what is read is what is looked up, and wrong tables say what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, zeros

from within.core import Macs, trace
from within.core.errors import WithinError
from within.core.quantize.cost_table import UNTOUCHED, cost_table, mac_bits, read_cost_table


@given(
    layers=st.integers(1, 4),
    weights=st.lists(st.integers(1, 16), min_size=1, max_size=5, unique=True).map(sorted),
    activations=st.lists(st.integers(1, 16), min_size=1, max_size=5, unique=True).map(sorted),
    data=st.data(),
)
def test_every_entry_is_found_by_its_bits(layers, weights, activations, data):
    """Would catch swapped axes, and bits taken for array indices."""
    costs = np.arange(layers * len(weights) * len(activations)).reshape(layers, len(weights), len(activations))
    table = cost_table(costs, weight_bits=weights, activation_bits=activations)
    places = [
        (data.draw(st.integers(0, len(weights) - 1)), data.draw(st.integers(0, len(activations) - 1)))
        for _ in range(layers)
    ]
    bits = [(weights[w], activations[a]) for w, a in places]
    assert table.of(bits) == sum(costs[layer, w, a] for layer, (w, a) in enumerate(places))


def test_an_untouched_operand_costs_the_widest_bits_or_the_column_that_is_named():
    """Would catch the input image of HAQ's first layer looked up anywhere else."""
    costs = np.arange(24).reshape(1, 3, 8)
    assert cost_table(costs).of([(2, UNTOUCHED)]) == costs[0, 1, -1]
    assert cost_table(costs, untouched=-2).of([(2, UNTOUCHED)]) == costs[0, 1, -2]
    with pytest.raises(WithinError, match="untouched=-4"):
        cost_table(costs, untouched=-4)


def test_bits_that_the_table_does_not_have_are_named_with_their_layer():
    table = cost_table(np.ones((2, 2, 2)), layers=["stem", "head"], weight_bits=[4, 8])
    with pytest.raises(WithinError, match=r"weights of 5 bits.*head.*4, 8"):
        table.of([(4, 1), (5, 1)])
    with pytest.raises(WithinError, match="1 pairs of bits for 2 layers"):
        table.of([(4, 1)])


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (np.ones((3, 8)), r"shape .* not \(3, 8\)"),
        (np.ones((0, 8, 8)), "shape"),
        (np.where(np.arange(8).reshape(2, 2, 2) == 5, np.nan, 1.0), "1 weight bits and 2 activation bits is nan"),
        (np.where(np.arange(8).reshape(2, 2, 2) == 5, np.inf, 1.0), "not a finite number"),
        (np.where(np.arange(8).reshape(2, 2, 2) == 6, -3.0, 1.0), "2 weight bits and 1 activation bits is -3.0, neg"),
        ([["a"]], "not numbers"),
    ],
)
def test_wrong_tables_say_what_and_where(costs, message):
    with pytest.raises(WithinError, match=message):
        cost_table(costs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["one"]}, "1 names for 2 layers"),
        ({"weight_bits": [1, 2, 4]}, "3 weight bit widths for an axis of 2"),
        ({"activation_bits": [4, 4]}, "must ascend"),
        ({"weight_bits": [0, 1]}, "at least 1"),
    ],
)
def test_axes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(WithinError, match=message):
        cost_table(np.ones((2, 2, 2)), **arguments)


def test_a_file_is_read_back_and_what_is_no_table_is_refused(tmp_path):
    """Would catch pickled objects that are loaded, or an error without the name of the file."""
    costs = np.arange(12).reshape(1, 3, 4)
    np.save(tmp_path / "costs.npy", costs)
    assert (read_cost_table(tmp_path / "costs.npy").cost == costs).all()
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npy").write_text("not an array")
    np.savez(tmp_path / "several.npz", costs)
    for name in ("objects.npy", "text.npy", "several.npz", "missing.npy"):
        with pytest.raises(WithinError, match=name):
            read_cost_table(tmp_path / name)


def test_products_of_macs_and_bits_are_those_of_the_graph():
    """Would catch a layer that is missing, counted twice or out of order."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 5))
    graph = trace(model, (zeros(1, 3, 8, 8),))
    table = mac_bits(graph, weight_bits=[2, 8], activation_bits=[4, 8])
    assert table.layers == ("0", "2", "4")
    assert table.uniform(8, 4) == Macs()(graph) * 32
    assert table.of([(2, 4), (8, 8), (8, 8)]) == 36 * 27 * 8 * 8 + 64 * (16 * 9 * 8 + 640)


def test_a_layer_that_runs_twice_is_one_row():
    layer = nn.Linear(4, 4)
    graph = trace(nn.Sequential(layer, nn.ReLU(), layer), (zeros(1, 4),))
    assert mac_bits(graph).of([(1, 1)]) == 32


def test_a_graph_without_weights_is_refused():
    with pytest.raises(WithinError, match="no convolution or linear layer"):
        mac_bits(trace(nn.ReLU(), (zeros(1, 4),)))


def test_the_table_of_haq_has_the_published_sums(data):
    """Would catch a table that is transposed, shifted by one bit or rounded."""
    table = read_cost_table(data("core") / "haq_mobilenetv2_batch16_cost_table.npy")
    assert [table.uniform(bits, bits) for bits in (8, 4, 1)] == [39_624_933, 15_716_150, 3_433_704]
