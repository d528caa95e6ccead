"""Each loss against its definition, written out pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.lowlevel.losses import LOSSES, build_loss
from within.lowlevel.metrics import psnr

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))


def pair(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, *shape, generator=generator, dtype=torch.float64)


@given(SHAPES, st.integers(0, 1000))
def test_losses_are_their_definitions(shape, seed):
    """Catches a sum where the paper has a mean, and a mean over the batch where it has one over the image."""
    p, t = pair(shape, seed)
    error = (p - t).numpy()
    expected = {
        "l1": np.abs(error).mean(),
        "mse": (error**2).mean(),
        "half_sum_of_squares": (error**2).sum() / (2 * shape[0]),
        "charbonnier": np.sqrt(error**2 + 1e-6).mean(),
        "negative_psnr": np.mean([10 * np.log10((image**2).mean() + 1e-8) for image in error]),
    }
    assert LOSSES.keys() == expected.keys()
    for name, value in expected.items():
        assert build_loss(name)(p, t).item() == pytest.approx(value, rel=1e-9), name


def test_negative_psnr_is_minus_the_psnr():
    """Catches another logarithm or peak than the metric's."""
    p, t = pair((1, 3, 16, 16), 0)
    assert build_loss("negative_psnr")(p, t).item() == pytest.approx(-psnr(p[0], t[0], values="float"), abs=1e-4)


def test_the_sum_over_pixels_grows_with_the_patch_and_not_with_the_batch():
    """Catches DnCNN's loss taken as a mean: its learning rate would be off by the number of pixels."""
    p, t = torch.ones(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    assert build_loss("half_sum_of_squares")(p, t) == 8


def test_weight_and_arguments_reach_the_loss():
    """Catches arguments of a configuration without effect."""
    p, t = pair((1, 1, 2, 2), 0)
    assert build_loss("mse", weight=3.0)(p, t).item() == pytest.approx(3 * build_loss("mse")(p, t).item())
    assert build_loss("charbonnier", epsilon=1.0)(t, t).item() == pytest.approx(1.0)


def test_gradients_are_finite_where_prediction_and_target_agree():
    """Catches the square root's infinite slope and log 0."""
    for name in LOSSES:
        value = torch.zeros(1, 1, 2, 2, requires_grad=True)
        (gradient,) = torch.autograd.grad(build_loss(name)(value, torch.zeros(1, 1, 2, 2)), value)
        assert torch.isfinite(gradient).all(), name
        assert math.isfinite(build_loss(name)(value, value).item())


def test_different_shapes_are_refused():
    """Catches a gray target that is stretched over three channels."""
    with pytest.raises(WithinError, match="check the number of channels"):
        build_loss("l1")(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))


def test_unknown_loss_is_named():
    """Catches a KeyError."""
    with pytest.raises(WithinError, match="no loss named 'l2'"):
        build_loss("l2")
