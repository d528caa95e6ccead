"""Magnitude pruning: exact densities, thresholds of the paper, the largest stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from within.core.errors import WithinError
from within.core.sparse import apply_masks, density_mask, density_of, magnitude_masks, threshold_mask


def weight(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_density_is_exact_and_the_largest_stay(seed, density):
    """Catches a share that is rounded twice, and a smaller weight that outlives a larger one."""
    values = weight(seed, 13, 17)
    mask = density_mask(values.abs(), density)
    assert int(mask.sum()) == round(density * values.numel())
    if mask.any() and not mask.all():
        assert values.abs()[mask].min() >= values.abs()[~mask].max()


def test_ties_keep_the_density():
    """Catches a threshold that keeps or removes all equal weights at once."""
    assert int(density_mask(torch.ones(10, 10), 0.3).sum()) == 30
    assert int(density_mask(torch.zeros(10, 10), 0.3).sum()) == 0  # but a zero is no weight to keep


@given(st.integers(0, 10**6), st.floats(0, 3))
def test_threshold_is_in_standard_deviations(seed, quality):
    """Catches another deviation: |w| >= q std(w), so that the scale of a layer does not matter."""
    values = weight(seed, 20, 20)
    mask = threshold_mask(values, quality)
    assert torch.equal(mask, values.abs().double() >= quality * values.double().std(correction=0))
    assert torch.equal(mask, threshold_mask(4 * values, quality))


def test_pruned_weights_do_not_count_in_the_deviation():
    """Catches a second round whose threshold shrinks because of the zeros of the first."""
    values = weight(0, 50, 50)
    padded = torch.cat([values, torch.zeros(500, 50)])
    assert torch.equal(threshold_mask(padded, 1.0)[:50], threshold_mask(values, 1.0))


def test_layers_by_name_and_all_together():
    """Catches a global density that is applied layer by layer: a layer of small weights loses more."""
    weights = {"large": 10 * weight(0, 30, 30), "small": weight(1, 30, 30)}
    together = magnitude_masks(weights, density=0.5)
    assert density_of(together) == 0.5
    assert together["large"].float().mean() > 0.8
    each = magnitude_masks(weights, density={"large": 0.2, "small": 0.6})
    assert [round(float(mask.float().mean()), 4) for mask in each.values()] == [0.2, 0.6]
    assert magnitude_masks(weights, quality={"small": 1.0}).keys() == {"small"}


def test_masks_leave_positive_zeros_and_a_plain_module():
    """Catches -0 from a product, which is stored as a weight, and wrappers that stay on the model."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    names = list(model.state_dict())
    apply_masks(model, {"0.weight": torch.zeros(8, 8, dtype=torch.bool)})
    assert not model[0].weight.signbit().any()
    assert type(model[0].weight) is nn.Parameter
    assert list(model.state_dict()) == names


def test_bad_input_is_refused():
    """Catches NaN that passes every comparison, and masks that belong to another model."""
    with pytest.raises(WithinError, match="NaN"):
        density_mask(torch.tensor([1.0, float("nan")]), 0.5)
    with pytest.raises(WithinError, match="A density of"):
        density_mask(torch.ones(3), 1.5)
    with pytest.raises(WithinError, match="quality"):
        threshold_mask(torch.ones(3), -1.0)
    with pytest.raises(WithinError, match="one of the two"):
        magnitude_masks({"w": torch.ones(3)})
    with pytest.raises(WithinError, match="no weight named"):
        magnitude_masks({"w": torch.ones(3)}, density={"v": 0.1})
    with pytest.raises(WithinError, match="fits no parameter"):
        apply_masks(nn.Linear(2, 2), {"weight": torch.ones(3, dtype=torch.bool)})
