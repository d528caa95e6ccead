"""HAQ's episode: actions to bits, the wall at its end, the state, and a search that never leaves the budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from within.core import trace
from within.core.errors import WithinError
from within.core.quantize.cost_table import cost_table, mac_bits, read_cost_table
from within.core.quantize.ddpg import DdpgSettings
from within.core.quantize.haq import (
    LayerDescription,
    bits_of,
    describe_layers,
    first_and_last,
    haq,
    push_under,
    static_features,
)
from within.core.quantize.mixed_precision import choose_bits, sensitivity_of
from within.core.solve import InfeasibleBudget

SMALL = DdpgSettings(hidden=16, batch=16)
PUBLISHED = (
    "8,-1 7,7 5,6 4,6 5,6 5,7 5,6 7,4 4,6 4,6 7,7 5,6 4,6 7,3 5,7 4,7 7,3 5,7 4,7 7,7 4,7 4,7 6,4 6,7 4,7 7,4 6,7"
)
PUBLISHED += " 5,7 7,4 6,7 5,7 7,4 6,7 6,7 6,4 5,7 6,7 6,4 5,7 6,7 7,7 4,7 7,7 7,7 4,7 7,7 7,7 4,7 7,7 7,7 4,7 7,7 8,8"


def described(count: int) -> list[LayerDescription]:
    return [LayerDescription(n % 2 == 1, 4 + n, 8, 1 + n % 2, 3, 100 + n, 64) for n in range(count)]


def random_table(seed: int, layers: int):
    """A table that rises with the bits, as costs do."""
    steps = np.random.default_rng(seed).integers(1, 9, (layers, 8, 8))
    return cost_table(steps.cumsum(axis=1).cumsum(axis=2))


@given(st.floats(0, 1), st.integers(1, 4), st.integers(4, 8))
def test_an_action_becomes_the_bits_of_the_formula(action, narrowest, widest):
    """Would catch shares of the interval that are not equal, or bits out of range at 0 and 1."""
    bits = bits_of(action, range(narrowest, widest + 1))
    assert narrowest <= bits <= widest
    assert abs((widest - narrowest + 1) * action + narrowest - 0.5 - bits) <= 0.5 + 1e-9


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), layers=st.integers(2, 6), place=st.floats(0, 1))
def test_the_wall_ends_within_the_budget_and_only_as_far_as_needed(seed, layers, place):
    """Would catch a budget that is broken, bits that go up, and fixed layers that move."""
    random = np.random.default_rng(seed)
    table = random_table(seed, layers)
    fixed = first_and_last(table)
    start = [(int(w), int(a)) for w, a in random.integers(1, 9, (layers, 2))]
    kept = [fixed.get(layer, pair) for layer, pair in enumerate(start)]
    least = table.of([fixed.get(layer, (1, 1)) for layer in range(layers)])
    budget = least + place * (table.uniform(8, 8) - least)
    bits = push_under(table, start, budget, fixed)
    assert table.of(bits) <= budget
    assert all(new[0] <= old[0] and new[1] <= old[1] for new, old in zip(bits, kept, strict=True))
    assert bits[0] == (8, -1)
    assert bits[-1] == (8, 8)
    if table.of(kept) <= budget:
        assert bits == kept


def test_the_wall_takes_activations_before_weights_from_the_last_layer_on():
    """Would catch another order than that of the published search."""
    table = cost_table(np.add.outer(np.zeros(3), np.add.outer(np.arange(1, 9), np.arange(1, 9))))
    everywhere = table.uniform(8, 8)
    walked = [push_under(table, [(8, 8)] * 3, everywhere - steps) for steps in range(1, 8)]
    assert walked[0] == [(8, 8), (8, 8), (8, 7)]
    assert walked[1] == [(8, 8), (8, 8), (7, 7)]
    assert walked[2] == [(8, 8), (8, 7), (7, 7)]
    assert walked[5] == [(7, 7), (7, 7), (7, 7)]
    assert walked[6] == [(7, 7), (7, 7), (7, 6)]


def test_a_budget_under_the_narrowest_bits_names_what_they_cost():
    table = random_table(0, 4)
    least = table.of([(8, -1), (1, 1), (1, 1), (8, 8)])
    with pytest.raises(InfeasibleBudget, match=f"{least:,.0f}.*layer 0, layer 3") as caught:
        haq(table, described(4), lambda bits: 0.0, least - 1, settings=SMALL)
    assert caught.value.minimum == least


def test_states_are_scaled_to_one_and_constant_columns_vanish():
    """Would catch a constant of 64 positions, which drowns everything else that the networks see."""
    features = static_features(described(5))
    assert features.shape == (5, 8)
    assert features[:, [0, 1, 3, 5, 7]].min() == 0
    assert features[:, [0, 1, 3, 5, 7]].max() == 1
    assert (features[:, [2, 4, 6]] == 0).all()


def test_layers_are_described_in_the_order_of_the_costs():
    """Would catch a state that belongs to another layer than its cost."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(200, 5))
    graph = trace(model, (torch.zeros(1, 3, 15, 15),))
    first, second, last = describe_layers(graph)
    assert len(mac_bits(graph)) == 3
    assert first == LayerDescription(False, 3, 8, 2, 3, 216, 225)
    assert second == LayerDescription(True, 8, 8, 1, 3, 72, 49)
    assert last == LayerDescription(False, 200, 5, 0, 1, 1000, 200)


def test_a_search_stays_within_its_budget_and_below_the_knapsack_and_repeats():
    """Would catch a search above the exact optimum (then the knapsack is wrong), or one its seed does not decide."""
    table = random_table(3, 5)
    losses = np.random.default_rng(1).random((5, 8, 8)).cumsum(axis=1).cumsum(axis=2)[:, ::-1, ::-1]
    fixed = first_and_last(table)
    budget = 0.5 * (table.of([fixed.get(layer, (1, 1)) for layer in range(5)]) + table.uniform(8, 8))
    met = []

    def accuracy(bits):
        met.append(table.of(bits))
        return 100 - sensitivity_of(table, losses, bits)

    runs = [haq(table, described(5), accuracy, budget, episodes=30, warm_up=10, settings=SMALL) for _ in range(2)]
    exact = choose_bits(table, losses, budget, fixed=fixed)
    assert runs[0] == runs[1]
    assert runs[0].gap is None
    assert max(met[1:31]) <= budget  # the first call is for the accuracy in float
    assert runs[0].cost == table.of(runs[0].bits)
    assert 100 + exact.value >= runs[0].value


def test_the_agent_learns_what_pays():
    """Would catch an agent that cannot tell weights from activations, or whose updates teach it nothing."""
    table, reached = random_table(0, 4), []

    def accuracy(bits):
        reached.append(sum(weight - activation for weight, activation in bits) / 4)  # at most 7
        return 5 * reached[-1]

    haq(
        table, described(4), accuracy, table.uniform(8, 8), float_accuracy=0.0, fixed={}, episodes=180, warm_up=30,
        settings=DdpgSettings(hidden=64, noise_decay=0.98),
    )  # fmt: skip
    assert abs(np.mean(reached[:30])) < 2
    assert np.mean(reached[-20:]) > 4.5


def test_inputs_that_do_not_fit_are_refused():
    table = random_table(0, 3)
    with pytest.raises(WithinError, match="2 layers for a table of 3"):
        haq(table, described(2), lambda bits: 0.0, 1e9)
    with pytest.raises(WithinError, match="5 of 3 episodes"):
        haq(table, described(3), lambda bits: 0.0, 1e9, episodes=3, warm_up=5)
    with pytest.raises(WithinError, match=r"accuracy is nan.*episode 0"):
        haq(table, described(3), lambda bits: float("nan"), 1e9, float_accuracy=0.0, settings=SMALL)


def test_the_published_strategy_costs_what_the_paper_says(data):
    """Would catch -1 read as anything but the last but one column, as the published code does."""
    path = data("core") / "haq_mobilenetv2_batch16_cost_table.npy"
    table = read_cost_table(path, untouched=-2)
    bits = [tuple(int(each) for each in pair.split(",")) for pair in PUBLISHED.split()]
    assert table.of(bits) == 23_433_397
    assert round(table.of(bits) / table.uniform(8, 8), 6) == 0.591380
