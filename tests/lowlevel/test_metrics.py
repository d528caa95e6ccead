"""PSNR and SSIM against closed forms and against an implementation of the definition, in every named variant."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import convolve2d

from within.core.errors import WithinError
from within.lowlevel.data import sample_image
from within.lowlevel.metrics import Metric, luma, psnr, ssim

PAIRS = st.tuples(st.integers(12, 16), st.integers(12, 16), st.sampled_from([1, 3])).flatmap(
    lambda shape: st.tuples(arrays(np.uint8, shape), arrays(np.uint8, shape))
)


@given(offset=st.integers(1, 255), channels=st.sampled_from([1, 3]))
@settings(deadline=None)
def test_psnr_of_a_constant_offset_is_known(offset, channels):
    """Catches a wrong peak, a mean over the wrong axes, single precision."""
    black = np.zeros((5, 7, channels), np.uint8)
    assert psnr(black + np.uint8(offset), black) == pytest.approx(20 * math.log10(255 / offset), abs=1e-12)


@given(pair=PAIRS)
@settings(max_examples=30, deadline=None)
def test_equal_images_and_symmetry(pair):
    """Catches an epsilon in the denominator: equal images, black ones too, are infinitely alike."""
    a, b = pair
    assert psnr(a, a) == math.inf
    assert psnr(np.zeros_like(a), np.zeros_like(a)) == math.inf
    assert ssim(np.zeros_like(a), np.zeros_like(a)) == pytest.approx(1)
    assert ssim(a, a) == pytest.approx(1)
    assert psnr(a, b) == psnr(b, a)
    assert ssim(a, b) <= 1


@given(pair=PAIRS)
@settings(max_examples=30, deadline=None)
def test_the_same_pixels_give_the_same_figure_in_every_type(pair):
    """Catches a range that is guessed: uint8, uint16, floating point and tensors are one image."""
    a, b = pair
    assume(not np.array_equal(a, b))
    expected = psnr(a, b)
    assert psnr(a.astype(np.uint16) * 257, b) == pytest.approx(expected)
    assert psnr(a / 255.0, b, values="float") == pytest.approx(expected)
    tensor = torch.from_numpy(a.transpose(2, 0, 1) / np.float32(255))
    assert psnr(tensor, b) == pytest.approx(expected)
    assert ssim(tensor, b) == pytest.approx(ssim(a, b))


def test_values_are_rounded_only_when_asked():
    """Catches the two variants being one: an error of 0.3 gray levels is nothing after rounding."""
    target = np.full((12, 12, 1), 100, np.uint8)
    prediction = torch.full((1, 12, 12), 100.3 / 255, dtype=torch.float64)
    assert psnr(prediction, target) == math.inf
    assert psnr(prediction, target, values="float") == pytest.approx(20 * math.log10(255 / 0.3), abs=1e-3)
    assert psnr(torch.full((1, 12, 12), 1.2), np.full((12, 12, 1), 255, np.uint8)) == math.inf


def test_luma_is_that_of_bt601_in_studio_swing():
    """Catches full-swing luma, and BGR taken for RGB."""
    colors = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]]], np.float64)
    assert np.allclose(luma(colors).ravel(), [16, 235, 16 + 65.481, 16 + 24.966])
    a = sample_image("chelsea")[:64, :64]
    b = np.clip(a.astype(int) + np.random.default_rng(0).integers(-9, 10, a.shape), 0, 255).astype(np.uint8)
    ya, yb = luma(a.astype(np.float64)), luma(b.astype(np.float64))
    assert psnr(a, b, channel="y") == pytest.approx(10 * np.log10(255**2 / np.mean((ya - yb) ** 2)))
    rounded = 10 * np.log10(255**2 / np.mean((ya.round() - yb.round()) ** 2))
    assert psnr(a, b, channel="y_rounded") == pytest.approx(rounded)
    assert psnr(a, b, channel="y") - psnr(a, b, channel="y_rounded") > 0.01
    assert psnr(a[..., :1], b[..., :1], channel="y") == psnr(a[..., :1], b[..., :1])


@given(pair=PAIRS, channel=st.sampled_from(["rgb", "y"]))
@settings(max_examples=25, deadline=None)
def test_ssim_is_the_definition(pair, channel):
    """Catches another window, sample covariances, or borders: compared with the formula of Wang et al. (2004)."""
    a, b = (image.astype(np.float64) for image in pair)
    if channel == "y" and a.shape[2] == 3:
        a, b = luma(a), luma(b)
    ramp = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(ramp, ramp) / ramp.sum() ** 2

    def blur(x):
        return convolve2d(x, window, "valid")

    c1, c2, found = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for x, y in zip(a.transpose(2, 0, 1), b.transpose(2, 0, 1), strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, covariance = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        found.append(np.mean((2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))))
    assert ssim(*pair, channel=channel) == pytest.approx(np.mean(found), abs=1e-9)


@given(pair=PAIRS, border=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_the_border_is_left_out(pair, border):
    """Catches a border of zero that leaves nothing (`[0:-0]`), and one cut on two sides only."""
    a, b = (image[border : image.shape[0] - border, border : image.shape[1] - border] for image in pair)
    assert psnr(*pair, crop_border=border) == psnr(a, b)


def test_what_cannot_be_compared_is_refused():
    """Catches broadcasting of different shapes, an empty mean, and a window larger than the image."""
    image = np.zeros((12, 14, 3), np.uint8)
    for other in (image[:11], image[:, :, :1], image[:1, :1, :1]):
        with pytest.raises(WithinError, match="shape"):
            psnr(image, other)
    for border in (6, 7, -1):
        with pytest.raises(WithinError, match="border"):
            psnr(image, image, crop_border=border)
    with pytest.raises(WithinError, match="11x11"):
        ssim(image, image, crop_border=1)
    with pytest.raises(WithinError, match="int64"):
        psnr(image.astype(np.int64), image)
    with pytest.raises(WithinError, match=r"1 or 3"):
        psnr(image[..., :2], image[..., :2])


def test_nan_is_not_hidden():
    """Catches a NaN that clipping or rounding turns into a number."""
    image = np.zeros((12, 12, 1))
    broken = image.copy()
    broken[3, 3] = np.nan
    for values in ("float", "uint8"):
        assert math.isnan(psnr(broken, image, values=values))


def test_a_metric_is_named_after_its_variant():
    """Catches two variants under one name in a table."""
    metric = Metric("ssim", "uint8", "y", 4)
    assert metric.name == "ssim_uint8_y_crop4"
    assert Metric().name == "psnr_uint8_rgb"
    image = sample_image("coffee")[:40, :40]
    assert metric(image, image) == pytest.approx(1)
