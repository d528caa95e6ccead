"""Bits by the exact knapsack: equal to brute force, within every budget, errors that help."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.quantize.cost_table import cost_table, read_cost_table
from within.core.quantize.mixed_precision import choose_bits, measure_sensitivity, sensitivity_of
from within.core.solve import InfeasibleBudget


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), layers=st.integers(1, 4), place=st.floats(0, 1))
def test_no_choice_within_the_budget_is_better(seed, layers, place):
    """Would catch a choice above the budget, a worse one than brute force finds, and costs or values misreported."""
    random = np.random.default_rng(seed)
    table = cost_table(random.integers(0, 20, (layers, 2, 3)), weight_bits=[2, 8], activation_bits=[2, 4, 8])
    losses = random.normal(size=(layers, 2, 3))
    least, most = table.cost.min(axis=(1, 2)).sum(), table.cost.max(axis=(1, 2)).sum()
    budget = float(least + place * (most - least))
    found = choose_bits(table, losses, budget)
    pairs = list(itertools.product([2, 8], [2, 4, 8]))
    fitting = [bits for bits in itertools.product(pairs, repeat=layers) if table.of(bits) <= budget]
    assert table.of(found.bits) == found.cost <= budget
    assert -found.value == pytest.approx(sensitivity_of(table, losses, found.bits))
    assert -found.value == pytest.approx(min(sensitivity_of(table, losses, bits) for bits in fitting))
    assert found.gap == 0


def test_fixed_layers_and_allowed_bits_are_kept_to():
    """Would catch a knapsack that frees the layers which the user keeps."""
    table = cost_table(np.multiply.outer(np.ones(3), np.multiply.outer(np.arange(1, 9), np.arange(1, 9))))
    losses = -table.cost
    found = choose_bits(table, losses, 120, fixed={0: (8, -1), 2: (8, 1)}, weight_bits=[2, 4], activation_bits=[4, 8])
    assert found.bits[0] == (8, -1)
    assert found.bits[2] == (8, 1)
    assert found.bits[1] == (4, 8)
    with pytest.raises(WithinError, match="no layer 3"):
        choose_bits(table, losses, 120, fixed={3: (8, 8)})
    with pytest.raises(WithinError, match="no bits to choose from"):
        choose_bits(table, losses, 120, weight_bits=[])


def test_a_budget_below_the_least_cost_says_what_is_possible():
    table = cost_table(np.arange(1, 17).reshape(2, 2, 4), layers=["stem", "head"])
    with pytest.raises(InfeasibleBudget, match=r"least attainable is 10.*head") as caught:
        choose_bits(table, np.zeros((2, 2, 4)), 9)
    assert caught.value.minimum == 10


@pytest.mark.parametrize(
    ("losses", "message"),
    [(np.zeros((2, 2, 3)), "shape"), (np.full((2, 2, 4), np.nan), "is nan"), (["a"], "not numbers")],
)
def test_wrong_sensitivities_are_refused(losses, message):
    with pytest.raises(WithinError, match=message):
        choose_bits(cost_table(np.ones((2, 2, 4))), losses, 100)


def test_measured_sensitivities_are_the_rise_of_the_loss_one_operand_at_a_time():
    """Would catch the float loss left in, or a layer that stays quantised while the next is measured."""
    random = np.random.default_rng(0)
    weight, activation = random.random((3, 2)), random.random((3, 4))
    table = cost_table(np.ones((3, 2, 4)))

    def loss(bits):
        terms = [weight[layer, w - 1] for layer, (w, _) in enumerate(bits) if w > 0]
        terms += [activation[layer, a - 1] for layer, (_, a) in enumerate(bits) if a > 0]
        return 5.0 + sum(terms)

    assert measure_sensitivity(loss, table) == pytest.approx(weight[:, :, None] + activation[:, None, :])
    with pytest.raises(WithinError, match="The loss is nan"):
        measure_sensitivity(lambda bits: float("nan"), table)


def test_every_budget_over_the_table_of_haq_is_met(data):
    """Would catch a budget that is broken by rounding at the ends of the real table, or declared impossible."""
    table = read_cost_table(data("core") / "haq_mobilenetv2_batch16_cost_table.npy")
    losses = np.random.default_rng(0).random(table.cost.shape).cumsum(axis=1).cumsum(axis=2)[:, ::-1, ::-1]
    for budget in (3_433_704, 3_433_705, 23_433_397, 39_624_932, 39_624_933):
        assert choose_bits(table, losses, budget).cost <= budget
    with pytest.raises(InfeasibleBudget, match="3,433,704"):
        choose_bits(table, losses, 3_433_703)
