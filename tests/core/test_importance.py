"""Importance criteria: what each claims of its ranking."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from within.core import WithinError, trace
from within.core.pruning.importance import l1, score, taylor


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.second = nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu_(self.norm(self.first(image)))
        return self.head(torch.relu(self.second(hidden)).mean((2, 3)))


def _setup() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = Normalised().eval()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
        model.norm.weight.normal_()
        model.norm.bias.normal_()
    return model, torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])


def test_gate_taylor_equals_the_batch_norm_form() -> None:
    """(z dE/dz)^2 at z = 1 is (gamma dE/dgamma + beta dE/dbeta)^2: methods 22 and 31 of the paper agree."""
    model, images, labels = _setup()
    graph = trace(model, (images,))
    found = taylor(graph, data=[(images, labels)], loss=nn.functional.cross_entropy)["first.weight"]
    nn.functional.cross_entropy(model(images), labels).backward()
    norm = model.norm
    expected = (norm.weight * norm.weight.grad + norm.bias * norm.bias.grad).detach().double().numpy() ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_gate_taylor_averages_squares_over_batches() -> None:
    """Would catch the square of the mean instead of the mean of the squares."""
    model, images, labels = _setup()
    graph = trace(model, (images,))
    batches = [(images, labels), (images.flip(0) * 2, labels)]
    both = taylor(graph, data=batches, loss=nn.functional.cross_entropy)["second.weight"]
    single = [taylor(graph, data=[batch], loss=nn.functional.cross_entropy)["second.weight"] for batch in batches]
    np.testing.assert_allclose(both, np.mean(single, axis=0), rtol=1e-6)


def test_a_dead_channel_scores_zero() -> None:
    model, images, labels = _setup()
    with torch.no_grad():
        model.second.weight[:, 5] = 0
    found = taylor(trace(model, (images,)), data=[(images, labels)], loss=nn.functional.cross_entropy)
    assert found["first.weight"][5] < 1e-12


def test_l1_does_not_depend_on_the_scale_of_a_layer() -> None:
    """Would catch layers with large weights that are never cut."""
    model, images, _ = _setup()
    before = l1(trace(model, (images,)))["first.weight"]
    with torch.no_grad():
        model.first.weight.mul_(100)
    np.testing.assert_allclose(l1(trace(model, (images,)))["first.weight"], before, rtol=1e-6)


def test_nan_in_calibration_data_is_named() -> None:
    model, images, labels = _setup()
    images[0, 0, 0, 0] = float("nan")
    with pytest.raises(WithinError, match="batch 0"):
        taylor(trace(model, (images,)), data=[(images, labels)], loss=nn.functional.cross_entropy)


def test_scores_must_fit_the_groups() -> None:
    model, images, _ = _setup()
    graph = trace(model, (images,))
    with pytest.raises(WithinError):
        score(graph, {"first.weight": np.ones(3)})


def test_filter_l1_sums_the_filters_of_a_group_as_they_are():
    """Would catch layers made relative, and normalisation or biases that have a say."""
    model, images, _ = _setup()
    graph = trace(model, (images,))
    found = score(graph, "filter_l1")
    expected = model.first.weight.abs().sum((1, 2, 3)).detach().double().numpy()
    np.testing.assert_allclose(found["first.weight"], expected, rtol=1e-6)
    assert not np.allclose(score(graph, "l1")["first.weight"], expected)
