"""Bits from the network alone: within the budget, judged by what they do to the answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from within.core.errors import WithinError
from within.core.quantize import quantize
from within.core.quantize.bit_budget import BitBudget, bits_within
from within.core.solve import InfeasibleBudget


def network() -> nn.Module:
    """Four layers, three of them followed by a batch normalisation."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)]
    parts = [part for layer in layers for part in (layer, nn.BatchNorm2d(8), nn.ReLU())]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


INPUTS = (torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)),)
LAYERS = ["0", "3", "6", "11"]


@pytest.mark.parametrize("fraction", [0.3, 0.6, 1.0])
def test_bits_stay_within_the_budget_and_go_into_quantize(fraction):
    """Would catch a budget of another unit than the costs, and names that the quantiser does not know."""
    budget = BitBudget(fraction=fraction, weight_bits=(2, 4, 8), activation_bits=(4, 8))
    chosen = bits_within(network(), INPUTS, [INPUTS[0]], budget)
    assert list(chosen.bits) == LAYERS
    assert chosen.table.of(list(chosen.bits.values())) <= chosen.limit == fraction * chosen.table.uniform(8, 8)
    assert chosen.bits["0"] == chosen.bits["11"] == (8, 8)
    assert chosen.allocation.gap == 0
    result = quantize(network(), INPUTS, [INPUTS[0]], {"bits": chosen.bits})
    found = {layers[0]: result.model.get_submodule(path).grid.bits for path, layers in result.quantized.weights.items()}
    assert found == {name: bits[0] for name, bits in chosen.bits.items()}


def test_a_table_of_a_device_counts_instead(tmp_path):
    """Would catch bits looked up at another place of the table, and a table of another network taken."""
    costs = np.zeros((4, 8, 8), np.int64)
    costs[:, 7, 7], costs[:, 3, 7], costs[:, 7, 3], costs[:, 3, 3] = 100, 90, 20, 10
    np.save(tmp_path / "costs.npy", costs)
    budget = BitBudget(limit=340, table=tmp_path / "costs.npy", weight_bits=(4, 8), activation_bits=(4, 8))
    chosen = bits_within(network(), INPUTS, [INPUTS[0]], budget)
    assert chosen.allocation.cost <= 340
    assert any(bits[1] == 4 for bits in chosen.bits.values())  # fewer weight bits alone save too little
    np.save(tmp_path / "other.npy", costs[:3])
    with pytest.raises(WithinError, match="3 layers, the network 4"):
        bits_within(network(), INPUTS, [INPUTS[0]], BitBudget(limit=340, table=tmp_path / "other.npy"))


def test_impossible_requests_are_refused():
    """Would catch a budget broken in silence, and bits chosen on nothing."""
    with pytest.raises(InfeasibleBudget):
        bits_within(network(), INPUTS, [INPUTS[0]], BitBudget(fraction=0.01))
    with pytest.raises(WithinError, match="no data"):
        bits_within(network(), INPUTS, [], BitBudget(fraction=0.5))
    with pytest.raises(WithinError, match="one of the two"):
        BitBudget()
    with pytest.raises(WithinError, match="A fraction of 2"):
        BitBudget(fraction=2)
