"""Degradations: MATLAB's bicubic to the byte, and noise whose statistics and protocols are what they are called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.lowlevel.data import (
    BicubicDownscale,
    Chain,
    GaussianNoise,
    JpegCompression,
    PoissonGaussianNoise,
    imresize,
    modcrop,
    read_image,
    sample_image,
)

GENERATOR = np.random.default_rng(0)


def noise(height, width, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, 2)).astype(dtype)


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_reproduces_matlab_on_set5(data, scale):
    """Catches any difference from MATLAB's imresize: kernel, phase, border, order of the passes, rounding."""
    folder = data("lowlevel") / "Set5"
    paths = sorted((folder / "HR").glob("*.bmp"))
    assert len(paths) == 5
    for path in paths:
        expected = read_image(folder / f"LR_x{scale}" / f"{path.stem}x{scale}.bmp")
        found = BicubicDownscale(scale)(modcrop(read_image(path), scale), GENERATOR)
        assert (found != expected).sum() == 0, path.name


SIZES = st.integers(1, 14)
SCALES = st.sampled_from([0.25, 1 / 3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0])


@settings(max_examples=60, deadline=None)
@given(height=SIZES, width=SIZES, scale=SCALES, level=st.integers(0, 255))
def test_resizing_keeps_a_flat_image_flat(height, width, scale, level):
    """Catches weights that do not sum to one and borders that are not mirrored; black stays black."""
    out = imresize(np.full((height, width, 1), level, np.uint8), scale)
    assert out.shape == (int(np.ceil(round(height * scale, 6))), int(np.ceil(round(width * scale, 6))), 1)
    assert (out == level).all()


@settings(max_examples=60, deadline=None)
@given(height=SIZES, width=SIZES, scale=st.sampled_from([0.5, 2.0, 3.0, 4.0]), seed=st.integers(0, 99))
def test_resizing_commutes_with_the_symmetries(height, width, scale, seed):
    """Catches a shifted grid: it would move to the other side in a flipped image."""
    image = modcrop(noise(2 * height, 2 * width, seed), 2).astype(np.float64)
    out = imresize(image, scale, variant="basicsr")
    for turn in (lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: x.transpose(1, 0, 2)):
        assert np.allclose(imresize(turn(image), scale, variant="basicsr"), turn(out), atol=1e-9)


def test_resizing_by_one_changes_nothing():
    """Catches an off-by-one of the sampling grid."""
    for dtype in (np.uint8, np.uint16):
        assert np.array_equal(imresize(noise(9, 7, dtype=dtype), 1.0), noise(9, 7, dtype=dtype))


def test_the_float_variant_does_not_round():
    """Catches the two variants being one: they differ by rounding, and by no more than 2.5 gray levels."""
    image = noise(40, 40)
    exact, rounded = imresize(image, 0.5, variant="basicsr"), imresize(image, 0.5)
    assert exact.dtype == np.float64
    assert rounded.dtype == np.uint8
    inside = np.clip(exact, 0, 255)
    assert 0 < np.abs(inside - rounded).max() <= 2.5


def test_bad_scales_are_refused():
    """Catches a division by zero and fractions of a pixel."""
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(WithinError, match="scale"):
            imresize(noise(4, 4), scale)
    with pytest.raises(WithinError, match="modcrop"):
        BicubicDownscale(4)(noise(10, 8), GENERATOR)
    with pytest.raises(WithinError, match="smaller"):
        modcrop(noise(3, 9), 4)


@given(height=st.integers(1, 20), width=st.integers(1, 20), multiple=st.integers(1, 6))
def test_modcrop_cuts_as_little_as_possible(height, width, multiple):
    """Catches cutting a whole multiple too much, or at the wrong side."""
    if min(height, width) < multiple:
        return
    image = noise(height, width)
    out = modcrop(image, multiple)
    assert out.shape[0] % multiple == out.shape[1] % multiple == 0
    assert height - out.shape[0] < multiple
    assert width - out.shape[1] < multiple
    assert np.array_equal(out, image[: out.shape[0], : out.shape[1]])


def test_the_kair_protocol_is_seeded_for_every_image():
    """Catches noise that depends on what came before; it is numpy's legacy stream from seed 0, neither clipped nor
    rounded, and the global generator is left alone."""
    image = sample_image("camera")[:32, :48]
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    noisy = GaussianNoise(25, "kair")(image, np.random.default_rng(1))
    assert np.array_equal(np.random.get_state()[1], before)
    assert np.array_equal(noisy, GaussianNoise(25, "kair")(image, np.random.default_rng(2)))
    np.random.seed(0)
    expected = image / np.float32(255) + np.random.normal(0, 25 / 255, image.shape)
    assert noisy.dtype == np.float32
    assert np.array_equal(noisy, expected.astype(np.float32))
    # The first draws of that stream, known from everywhere.
    black = GaussianNoise(255, "kair")(np.zeros((1, 3, 1), np.uint8), GENERATOR)
    assert np.allclose(black.ravel(), [1.76405235, 0.40015721, 0.97873798])


def test_the_n2n_protocol_clips_and_cuts():
    """Catches rounding in place of cutting, which moves the published figure by 0.07 dB."""
    image = sample_image("coffee")[:40, :40]
    noisy = GaussianNoise(25, "n2n")(image, GENERATOR)
    expected = np.random.RandomState(0).normal(0, 25, image.shape) + image
    assert noisy.dtype == np.uint8
    assert np.array_equal(noisy, np.trunc(np.clip(expected, 0, 255)).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_random_noise_has_the_standard_deviation_it_says(dtype):
    """Catches a wrong scale, for 8 and 16 bits, and noise that is the same in all channels."""
    gray = np.full((200, 200, 3), np.iinfo(dtype).max // 2, dtype)
    added = GaussianNoise(25)(gray, np.random.default_rng(0)) - gray / np.float32(np.iinfo(dtype).max)
    assert abs(added.std() * 255 - 25) < 0.3
    assert abs(added.mean()) * 255 < 0.3
    assert abs(np.corrcoef(added[..., 0].ravel(), added[..., 1].ravel())[0, 1]) < 0.02


def test_a_range_of_sigmas_is_drawn_from():
    """Catches one sigma for all images."""
    gray = np.full((64, 64, 1), 128, np.uint8)
    generator = np.random.default_rng(0)
    stds = [(GaussianNoise((10, 50))(gray, generator) - 128 / 255).std() * 255 for _ in range(50)]
    assert 8 < min(stds) < 20 < 40 < max(stds) < 53


def test_nonsense_noise_is_refused():
    """Catches a negative deviation, and a test protocol with a random one."""
    with pytest.raises(WithinError, match="negative"):
        GaussianNoise(-1)
    with pytest.raises(WithinError, match="one sigma"):
        GaussianNoise((0, 50), "kair")


@settings(max_examples=20, deadline=None)
@given(level=st.integers(0, 255), shot=st.floats(1e-4, 1e-2), read=st.floats(1e-6, 1e-3))
def test_sensor_noise_has_the_variance_of_its_model(level, shot, read):
    """Catches shot and read noise swapped, or added as deviations instead of variances."""
    flat = np.full((150, 150, 1), level, np.uint8)
    noisy = PoissonGaussianNoise(shot, read, clip=False)(flat, np.random.default_rng(0))
    assert noisy.var() == pytest.approx(shot * level / 255 + read, rel=0.05)
    clipped = PoissonGaussianNoise(shot, read)(flat, np.random.default_rng(0))
    assert np.array_equal(clipped, np.clip(noisy, 0, 1))


def test_jpeg_loses_more_at_lower_quality():
    """Catches a quality that is ignored, and a shape that changes for gray images."""
    image = sample_image("chelsea")
    errors = [np.abs(JpegCompression(quality)(image, GENERATOR).astype(int) - image).mean() for quality in (10, 50, 95)]
    assert errors[0] > errors[1] > errors[2] > 0
    assert JpegCompression((10, 90))(image[:, :, :1], GENERATOR).shape == (*image.shape[:2], 1)
    with pytest.raises(WithinError, match="8 bits"):
        JpegCompression(50)(noise(8, 8, dtype=np.uint16), GENERATOR)


def test_a_chain_applies_its_steps_in_order():
    """Catches a wrong order and a wrong total scale."""
    image = sample_image("coffee")[:64, :64]
    steps = (BicubicDownscale(2), JpegCompression(40), BicubicDownscale(2))
    chain = Chain(steps)
    expected = image
    for step in steps:
        expected = step(expected, GENERATOR)
    assert chain.scale == 4
    assert np.array_equal(chain(image, GENERATOR), expected)
