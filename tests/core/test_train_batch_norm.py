"""Re-estimated statistics are plain averages, and nothing else of the model changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from within.core.errors import WithinError
from within.core.train import freeze_batch_norm, reestimate_batch_norm


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.BatchNorm2d(3))


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(2, 5), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_statistics_are_the_average_over_batches(sizes, seed):
    """Catches a moving average, statistics that remember the old ones, and dropout that is on."""
    torch.manual_seed(seed)
    model = network()
    model[1].running_mean.fill_(9.0)
    model[1].running_var.fill_(9.0)
    batches = [torch.randn(size, 2, 3, 3) for size in sizes]
    assert reestimate_batch_norm(model, [(batch, None) for batch in batches]) == len(sizes)
    with torch.no_grad():
        features = [model[0](batch) for batch in batches]
    mean = torch.stack([feature.mean((0, 2, 3)) for feature in features]).mean(0)
    variance = torch.stack([feature.var((0, 2, 3)) for feature in features]).mean(0)
    assert torch.allclose(model[1].running_mean, mean, atol=1e-5)
    assert torch.allclose(model[1].running_var, variance, atol=1e-5)
    # The second layer sees normalised features: mean 0 per batch exactly only without dropout.
    assert torch.allclose(model[3].running_mean, torch.zeros(3), atol=1e-5)


def test_weights_modes_and_momenta_stay():
    """Catches a model left in evaluation mode or with a cumulative average for its later training."""
    model = network()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    before = [parameter.clone() for parameter in model.parameters()]
    reestimate_batch_norm(model, [torch.randn(2, 2, 3, 3)] * 3, limit=2)
    assert [module.training for module in model.modules()] == modes
    assert [model[1].momentum, model[3].momentum] == [0.1, 0.1]
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert model[1].num_batches_tracked == 2


@pytest.mark.parametrize(
    ("batches", "message"),
    [([], "no batches"), ([torch.randn(2, 2, 3, 3), torch.full((2, 2, 3, 3), torch.nan)], "hold NaN")],
)
def test_failure_keeps_the_old_statistics(batches, message):
    """Catches calibration data with a NaN that destroys a good model."""
    model = network()
    reestimate_batch_norm(model, [torch.randn(2, 2, 3, 3)])
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with pytest.raises(WithinError, match=message):
        reestimate_batch_norm(model, batches)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


def test_a_model_without_batch_norm_needs_no_data():
    """Catches a failure where there is nothing to do."""
    assert reestimate_batch_norm(nn.Conv2d(1, 1, 1), []) == 0


def test_freezing_leaves_the_rest_in_training_mode():
    """Catches a freeze that also turns off dropout."""
    model = network().train()
    freeze_batch_norm(model)
    assert [model[1].training, model[2].training] == [False, True]
