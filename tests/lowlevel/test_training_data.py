"""Training patches: as many as the grid has, with the noise that is asked for, the same for the same generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from within.core.errors import WithinError
from within.lowlevel.data.degradations import GaussianNoise
from within.lowlevel.data.folders import DegradedImages
from within.lowlevel.data.patches import Patches
from within.lowlevel.data.resize import imresize
from within.lowlevel.data.sample_images import sample_images
from within.lowlevel.data.sources import ArrayImages
from within.lowlevel.training_data import NoisyPatches, TurnedTensors, bicubic_pairs, prepare, teacher_outputs


def source(height: int = 40, width: int = 50, count: int = 2) -> ArrayImages:
    generator = np.random.default_rng(0)
    return ArrayImages(
        {f"{n}.png": generator.integers(0, 256, (height, width, 1), dtype=np.uint8) for n in range(count)}
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(4, 20), stride=st.integers(1, 15), count=st.integers(1, 3), enlarge=st.integers(1, 2))
def test_grid_has_every_place_once(size, stride, count, enlarge):
    """Catches a grid that leaves out the last row or column, and enlargement without effect."""
    data = NoisyPatches(source(count=count), patch_size=size, stride=stride, sigma=0, enlarge=enlarge, augment=False)
    rows, columns = (40 - size) // stride + 1, (50 - size) // stride + 1
    assert len(data) == rows * columns * count * enlarge
    assert len({data.item_name(index) for index in range(len(data))}) == rows * columns * count


def test_bsd_like_images_give_the_published_number_of_patches():
    """Catches other scales: one 180x180 image gives 15^2 + 13^2 + 11^2 + 9^2 patches of 40 at 1, 0.9, 0.8, 0.7."""
    data = NoisyPatches(source(180, 180, 1), patch_size=40, stride=10, sigma=25, scales=(1.0, 0.9, 0.8, 0.7))
    assert len(data) == 15**2 + 13**2 + 11**2 + 9**2


def test_noise_has_the_standard_deviation_that_is_asked_for():
    """Catches sigma on the scale 0..1, clipping, and one level for the whole batch where each patch has its own."""
    data = NoisyPatches(sample_images(["camera", "moon"]), patch_size=64, stride=64, sigma=25)
    noisy, clean = data.batch(torch.arange(len(data)), seeded())
    assert (noisy - clean).std().item() == pytest.approx(25 / 255, rel=0.02)
    assert noisy.min() < 0
    ranged = NoisyPatches(sample_images(["camera"]), patch_size=64, stride=64, sigma=(5, 50), noise_level_input=True)
    (noisy, levels), clean = ranged.batch(torch.arange(len(ranged)), seeded())
    assert 5 / 255 <= levels.min() < 12 / 255
    assert 43 / 255 < levels.max() <= 50 / 255
    deviations = (noisy - clean).std(dim=(1, 2, 3))
    assert torch.allclose(deviations, levels.flatten(), rtol=0.1)


@pytest.mark.parametrize("stride", [10, None])
def test_the_generator_decides_everything(stride):
    """Catches a draw from a global generator, which a resumed training would not repeat."""
    data = NoisyPatches(source(), patch_size=8, stride=stride, sigma=(0, 50))
    chosen = torch.tensor([0, 1, 1])
    one, other, different = (data.batch(chosen, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[1], different[1])


def test_augmentation_only_moves_pixels():
    """Catches an interpolating rotation and a target that is turned otherwise than its input."""
    inputs = torch.rand(6, 1, 5, 5)
    data, seen = TurnedTensors(inputs, 2 * inputs), set()
    for seed in range(40):
        turned, target = data.batch(torch.arange(6), seeded(seed))
        assert torch.equal(target, 2 * turned)
        assert torch.equal(turned.flatten(1).sort().values, inputs.flatten(1).sort().values)
        seen.add(turned.numpy().tobytes())
    assert len(seen) == 8


def test_low_resolution_patches_come_from_the_whole_image():
    """Catches downscaling patch by patch, which mirrors at every patch's border."""
    images = sample_images(["chelsea"])
    pairs = bicubic_pairs(images, 2, patches=Patches(32, flip=False, rotate=False), color="gray")
    small = imresize(pairs.gt.read("chelsea"), 0.5).transpose(2, 0, 1) / 255
    lq, _ = pairs.batch(torch.tensor([0]), seeded())
    windows = np.lib.stride_tricks.sliding_window_view(small[0], (16, 16))
    assert np.isclose(windows, lq[0, 0].numpy(), atol=1e-6).all(axis=(2, 3)).any()


def test_prepared_items_are_those_of_the_source():
    """Catches inputs and targets that are drawn from different patches."""
    data = DegradedImages(source(), GaussianNoise(0.0), patches=Patches(16), seed=0)
    inputs, target = prepare(data, 5, seed=3)
    assert inputs.shape == (5, 1, 16, 16)
    assert torch.allclose(inputs, target)
    again, _ = prepare(data, 5, seed=3)
    assert torch.equal(inputs, again)


def test_teacher_is_run_in_evaluation_mode_and_left_as_it_was():
    """Catches batch statistics in the targets, and running statistics that drift."""
    teacher = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)).train()
    before = teacher[1].running_mean.clone()
    inputs = torch.rand(5, 1, 8, 8)
    outputs = teacher_outputs(teacher, inputs, batch_size=2)
    assert teacher.training
    assert torch.equal(teacher[1].running_mean, before)
    assert torch.allclose(outputs, teacher.eval()(inputs), atol=1e-6)
    teacher[0].weight.data[0] = float("nan")
    with pytest.raises(WithinError, match="teacher returns NaN"):
        teacher_outputs(teacher, inputs)


def test_an_image_smaller_than_a_patch_is_named():
    """Catches an empty grid."""
    with pytest.raises(WithinError, match=r"0.png is 40x50 at scale 1.0, smaller than a patch of 64x64"):
        NoisyPatches(source(), patch_size=64, stride=10, sigma=25)
