"""Augmentation keeps image and label aligned, reaches every place and scale, and is decided by the generator alone."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from within.core.errors import WithinError
from within.core.train import BatchSource
from within.segmentation.augmentation import (
    random_brightness,
    random_colour,
    random_crop_and_scale,
    random_horizontal_flip,
    random_square_crop_and_scale,
)
from within.segmentation.data import TrainingCrops, find_dataset
from within.segmentation.data.pairs import SegmentationPairs
from within.segmentation.label_map import CAMVID


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blocks(height, width, seed=0, block=16):
    """Returns an image of large blocks whose red is 20 times the label, and the label."""
    small = torch.randint(11, (-(-height // block), -(-width // block)), generator=generator(seed), dtype=torch.uint8)
    label = small.repeat_interleave(block, 0).repeat_interleave(block, 1)[:height, :width].contiguous()
    return torch.stack([label * 20, torch.full_like(label, 7), 255 - label * 20]), label


def inner(label, reach):
    """Returns where all pixels within `reach` have the same label, so that no resizing mixes two of them."""
    windows = torch.nn.functional.pad(label[None].float(), [reach] * 4, mode="replicate")[0]
    windows = windows.unfold(0, 2 * reach + 1, 1).unfold(1, 2 * reach + 1, 1).flatten(2)
    return windows.amin(2) == windows.amax(2)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    whole=st.tuples(st.integers(24, 90), st.integers(24, 90)),
    size=st.tuples(st.integers(16, 60), st.integers(16, 60)),
    low=st.floats(0.5, 1.5),
    high=st.floats(1.5, 2),
)
def test_image_and_label_stay_aligned(seed, whole, size, low, high):
    """Catches labels shifted by half a pixel or cropped elsewhere: the image's colour tells its label everywhere."""
    image, label = blocks(*whole, seed=seed)
    crop, cut = random_crop_and_scale(image, label, generator(seed), size=size, scale=(low, high), mean=(0, 100, 0))
    crop, cut = random_horizontal_flip(crop, cut, generator(seed + 1))
    assert (tuple(crop.shape), tuple(cut.shape)) == ((3, *size), size)
    assert crop.dtype == cut.dtype == torch.uint8
    flat = inner(cut, 6)
    void = cut == 255
    assert (crop[0][flat & ~void] == cut[flat & ~void] * 20).all()
    assert (crop[1][flat & ~void] == 7).all()
    assert (crop[1][flat & void] == 100).all()
    assert cut[~void].unique().tolist() == [number for number in cut.unique().tolist() if number in label.unique()]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_scale_one_is_a_plain_crop(seed):
    """Catches blurring where nothing is resized, and a place that is off by one at the border."""
    image, label = blocks(30, 40, seed=seed, block=3)
    crop, cut = random_square_crop_and_scale(image, label, generator(seed), size=20, scale=(1, 1))
    windows = label.unfold(0, 20, 1).unfold(1, 20, 1)
    places = (windows == cut).flatten(2).all(2).nonzero().tolist()
    assert any(torch.equal(image[:, y : y + 20, x : x + 20], crop) for y, x in places)


def test_every_place_is_reached():
    """Catches a range without its last place."""
    label = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    image = label.expand(3, 3, 4)
    draws = generator()
    found = {
        random_square_crop_and_scale(image, label, draws, size=2, scale=(1, 1))[1].min().item() for _ in range(200)
    }
    assert found == {0, 1, 2, 4, 5, 6}


def test_the_scale_is_that_of_the_box():
    """Catches the inverse scale: a box of twice the size shows things at half their size."""
    image, label = blocks(200, 200, block=40)
    _, cut = random_square_crop_and_scale(image, label, generator(), size=100, scale=(2, 2))
    assert torch.equal(cut, label[1::2, 1::2])
    _, cut = random_square_crop_and_scale(image[:, :40, :40], label[:40, :40], generator(), size=40, scale=(2, 2))
    assert (cut == 255).sum() == 3 * 20 * 20
    assert (cut[:20, :20] != 255).all()


@pytest.mark.parametrize("box", [(90, 120), (180, 240), (300, 400)])
def test_resizing_is_pillows(box):
    """Catches aliasing when shrinking and another bicubic: at most one gray level from Pillow, labels equal to it."""
    image = torch.randint(0, 256, (3, *box), dtype=torch.uint8, generator=generator())
    label = torch.randint(0, 11, box, dtype=torch.uint8, generator=generator(1))
    scale = box[0] / 180
    crop, cut = random_crop_and_scale(image, label, generator(), size=(180, 240), scale=(scale, scale))
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    expected = np.asarray(picture.resize((240, 180), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(crop.permute(1, 2, 0).numpy() - expected).max() <= 1
    expected = np.asarray(Image.fromarray(label.numpy()).resize((240, 180), Image.Resampling.NEAREST))
    assert np.array_equal(cut.numpy(), expected)


def test_flips_are_fair_and_of_both():
    """Catches a flip of the image alone, and one that always or never happens."""
    image, label = blocks(16, 48)
    draws, flips = generator(), 0
    for _ in range(400):
        other, mirrored = random_horizontal_flip(image, label, draws)
        flipped = not torch.equal(other, image)
        flips += flipped
        assert torch.equal(mirrored, label.flip(-1) if flipped else label)
        assert torch.equal(other, image.flip(-1) if flipped else image)
    assert 150 < flips < 250


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), strength=st.floats(0, 1))
def test_brightness_is_one_factor_an_image(seed, strength):
    """Catches factors by pixel or channel, and values outside 0..255."""
    images = torch.randint(20, 100, (4, 3, 2, 2), generator=generator(seed)).float()
    changed = random_brightness(images, generator(seed), strength=strength)
    factors = changed.flatten(1) / images.flatten(1)
    assert ((factors >= 1 - strength - 1e-5) & (factors <= 1 + strength + 1e-5)).all()
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), atol=1e-5)
    bright = random_brightness(torch.full((64, 3, 1, 1), 250.0), generator(seed), strength=1.0)
    assert bright.max() == 255
    assert bright.min() >= 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), strength=st.floats(0, 1))
def test_colour_changes_keep_mean_gray_and_the_gray_of_gray_images(seed, strength):
    """Catches factors by pixel, saturation that changes brightness, and channels in another order."""
    images = torch.randint(110, 146, (4, 3, 5, 5), generator=generator(seed)).float()
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    changed = random_colour(images, generator(seed), strength=strength)
    torch.testing.assert_close((changed * luma).sum(1).mean((1, 2)), (images * luma).sum(1).mean((1, 2)))
    gray = images[:, :1].expand_as(images)
    changed = random_colour(gray, generator(seed), strength=strength)
    torch.testing.assert_close(changed, changed[:, :1].expand_as(changed), atol=1e-3, rtol=0)
    torch.testing.assert_close(random_colour(images, generator(seed), strength=0.0), images)


def test_impossible_crops_are_refused():
    """Catches crops of no pixels, and an image with another's label."""
    image, label = blocks(20, 30)
    with pytest.raises(WithinError, match=r"20, 30.*20, 29"):
        random_square_crop_and_scale(image, label[:, :29], generator(), size=8)
    for size, scale in ((1, (0.5, 2)), (0, (1, 1)), (8, (2, 0.5)), (8, (0, 1))):
        with pytest.raises(WithinError, match="not possible"):
            random_square_crop_and_scale(image, label, generator(), size=size, scale=scale)


@pytest.fixture
def pairs(tmp_path):
    files = []
    for number in range(4):
        image, label = blocks(40, 60, seed=number)
        names = tmp_path / f"image{number}.png", tmp_path / f"label{number}.png"
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(names[0])
        Image.fromarray(label.numpy()).save(names[1])
        files.append(names)
    return SegmentationPairs(*zip(*files, strict=True), CAMVID)


def test_training_crops_are_a_source_of_batches(pairs):
    """Catches types that networks and losses do not take, and a batch in another order."""
    source = TrainingCrops(pairs, size=(24, 32), brightness=0.2)
    assert isinstance(source, BatchSource)
    assert (len(source), source.item_name(2)) == (4, "image2.png")
    images, labels = source.batch(torch.tensor([2, 0, 2]), generator())
    assert (tuple(images.shape), images.dtype) == ((3, 3, 24, 32), torch.float32)
    assert (tuple(labels.shape), labels.dtype) == ((3, 24, 32), torch.int64)
    plain = TrainingCrops(pairs, size=(40, 60), scale=(1, 1), flip=False)
    images, labels = plain.batch(torch.tensor([2, 0]), generator())
    for row, index in enumerate((2, 0)):
        image, label = pairs.read(index)
        assert torch.equal(images[row], image.float())
        assert torch.equal(labels[row], label.long())


@pytest.mark.parametrize("cache_bytes", [0, 2 * 4 * 40 * 60, 2**30])
def test_a_batch_is_a_function_of_its_generator(pairs, cache_bytes):
    """Catches randomness from elsewhere, and a cache that is changed by what is done to its images."""
    fresh = TrainingCrops(pairs, size=24, brightness=0.3, cache_bytes=0)
    source = TrainingCrops(pairs, size=24, brightness=0.3, cache_bytes=cache_bytes)
    for seed in (3, 4, 3):
        expected = fresh.batch(torch.arange(4), generator(seed))
        found = source.batch(torch.arange(4), generator(seed))
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert len(source._cache) == min(4, cache_bytes // (4 * 40 * 60))
    assert not torch.equal(source.batch(torch.arange(4), generator(5))[0], expected[0])


def test_an_image_of_void_is_a_warning_once(pairs):
    """Catches a label that teaches nothing and is never noticed, and a warning at every visit."""
    Image.fromarray(np.full((40, 60), 11, np.uint8)).save(pairs.labels[1])
    source = TrainingCrops(pairs, size=24, cache_bytes=0)
    with pytest.warns(UserWarning, match=r"label1\.png"):
        labels = source.batch(torch.tensor([1]), generator())[1]
    assert (labels == 255).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source.batch(torch.tensor([1, 0]), generator())


def test_augmentation_is_cheap_beside_a_training_step(data):
    """Catches resizing in floating point or of the whole image: a step of training takes 100 ms on such a CPU."""
    source = TrainingCrops(
        find_dataset(data("segmentation") / "camvid", "train"), size=(180, 240), scale=(0.7, 1.6), brightness=0.2
    )
    draws = generator()
    source.batch(torch.arange(6), draws)
    started = time.thread_time()
    for _ in range(20):
        source.batch(torch.arange(6), draws)
    assert (time.thread_time() - started) / 20 < 0.04
