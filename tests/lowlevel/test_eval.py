"""Evaluation: padding and ensembling change nothing that they should not, failures name the image, and the protocols
reproduce published figures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from within.core.errors import WithinError
from within.lowlevel.data import (
    ArrayImages,
    BicubicDownscale,
    DegradedImages,
    GaussianNoise,
    imresize,
    read_image,
    sample_image,
    write_image,
)
from within.lowlevel.eval import EvaluationResult, evaluate, main, restore, run_protocol
from within.lowlevel.metrics import Metric, psnr
from within.lowlevel.models import build
from within.lowlevel.protocols import PROTOCOLS, find_protocol, usual_protocol

PSNR = (Metric("psnr"),)


class Identity(nn.Module):
    """Returns its input, if that is a multiple of `size_multiple`."""

    def __init__(self, size_multiple=1, scale=1):
        super().__init__()
        self.size_multiple, self.scale = size_multiple, scale

    def forward(self, image):
        assert not self.training
        if image.shape[2] % self.size_multiple or image.shape[3] % self.size_multiple:
            raise RuntimeError("sizes do not fit")
        return image.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


class Wrong(nn.Module):
    """Returns what `change` makes of its input."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, image):
        return self.change(image)


def pairs(*shapes, degradation=None):
    generator = np.random.default_rng(0)
    arrays = {f"image{i}.png": generator.integers(0, 256, shape, dtype=np.uint8) for i, shape in enumerate(shapes)}
    return DegradedImages(ArrayImages(arrays), degradation or GaussianNoise(0))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    multiple=st.sampled_from([1, 2, 8, 32]),
    scale=st.sampled_from([1, 2, 3]),
    self_ensemble=st.booleans(),
)
def test_padding_leaves_no_trace(height, width, multiple, scale, self_ensemble):
    """Catches a crop at the wrong place, in particular for images smaller than their padding and after a rotation."""
    image = torch.rand(3, height, width)
    out = restore(Identity(multiple, scale).eval(), image, self_ensemble=self_ensemble)
    assert torch.allclose(out, image.repeat_interleave(scale, 1).repeat_interleave(scale, 2), atol=1e-6)


def test_self_ensemble_averages_the_eight_symmetries():
    """Catches a rotation undone in the wrong direction: the mean of a shift over all symmetries has none."""
    shift = Wrong(lambda x: torch.roll(x, 1, 3))
    image = torch.rand(3, 6, 6)
    expected = sum(torch.roll(image, step, axis) for step in (1, -1) for axis in (1, 2)) / 4
    assert torch.allclose(restore(shift, image, self_ensemble=True), expected, atol=1e-6)


def test_every_image_is_in_the_result(tmp_path):
    """Catches figures under the wrong name, a mean over pixels instead of images, and a mode that is not restored."""
    model = Identity(8).train()
    result = evaluate(model, pairs((20, 17, 3), (12, 30, 3)), (*PSNR, Metric("ssim"), *PSNR), save_folder=tmp_path)
    assert model.training
    assert result.metrics == ("psnr_uint8_rgb", "ssim_uint8_rgb")
    assert list(result.images) == ["image0.png", "image1.png"]
    assert result.mean["psnr_uint8_rgb"] == math.inf
    assert read_image(tmp_path / "image1.png").shape == (12, 30, 3)


def test_results_print_and_serialise():
    """Catches a table without its mean and JSON with `Infinity`, which is none."""
    result = EvaluationResult(("psnr",), {"a": (30.0,), "b": (40.0,), "c": (math.inf,)})
    columns, rows = result.table()
    assert columns == ("image", "psnr")
    assert rows[-1] == ("mean of 3", math.inf)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert json.loads(text) == {
        "mean": {"psnr": "inf"},
        "images": {"a": {"psnr": 30}, "b": {"psnr": 40}, "c": {"psnr": "inf"}},
    }
    assert EvaluationResult(("psnr",), {"a": (30.0,), "b": (40.0,)}).mean == {"psnr": 35.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * float("nan"), "NaN"),
        (lambda x: x / 0, "NaN or infinity"),
        (lambda x: x[:, :, 1:], "scale"),
        (lambda x: torch.cat((x, x), 1), "scale"),
        (lambda x: nn.Conv2d(1, 1, 3)(x), "channels"),
    ],
)
def test_failures_name_the_image(change, message):
    """Catches a table of NaN, and a traceback from inside the network."""
    with pytest.raises(WithinError, match=message) as caught:
        evaluate(Wrong(change), pairs((16, 16, 3)), PSNR)
    assert "image0.png" in str(caught.value)


def test_an_empty_data_set_is_refused():
    """Catches a mean of nothing."""
    with pytest.raises(WithinError, match="empty"):
        evaluate(Identity(), [], PSNR)


def test_another_execution_can_take_the_place_of_the_model():
    """Catches a hook that is not called, or called with images that are not padded."""
    shapes = []

    def tiled(batch):
        shapes.append(tuple(batch.shape))
        return batch

    evaluate(Identity(16), pairs((20, 17, 3)), PSNR, forward=tiled)
    assert shapes == [(1, 3, 32, 32)]


def test_output_beyond_the_range_is_clamped_before_it_is_measured():
    """Catches metrics on values that no image can have."""
    white = DegradedImages(ArrayImages({"white": np.full((12, 12, 3), 255, np.uint8)}), GaussianNoise(0))
    result = evaluate(Wrong(lambda x: x * 1.5), white, (Metric("psnr", "float"),))
    assert result.mean["psnr_float_rgb"] == math.inf


# Protocols


class Bicubic(nn.Module):
    """MATLAB's bicubic upscaling, the baseline of every table of super-resolution."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, image):
        array = np.round(image[0].numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
        return torch.from_numpy(imresize(array, self.scale).transpose(2, 0, 1)[None] / np.float32(255))


@pytest.mark.parametrize(("scale", "published"), [(2, 33.66), (4, 28.42)])
def test_bicubic_upscaling_has_the_psnr_that_every_paper_quotes(data, scale, published):
    """Catches a wrong luma, a wrong border, a wrong mean, without any network: Set5 as quoted since SRCNN (2014)."""
    folder = data("lowlevel") / "Set5"
    result = run_protocol(f"set5_x{scale}_y", Bicubic(scale), folder / "HR", folder / f"LR_x{scale}")
    assert result.mean[f"psnr_uint8_y_rounded_crop{scale}"] == pytest.approx(published, abs=0.03)


def test_published_weights_have_their_published_psnr(data):
    """Catches a network, a loader or a protocol that is subtly wrong: IMDN x4 has 32.21 dB on Set5."""
    folder = data("lowlevel")
    config = {
        "network": "imdn_x4",
        "weights": folder / "weights" / "imdn_x4.safetensors",
        "data": folder / "Set5" / "HR",
        "data_lq": folder / "Set5" / "LR_x4",
        "protocol": "set5_x4_y",
    }
    assert main(config).mean["psnr_uint8_y_crop4"] == pytest.approx(32.21, abs=0.005)
    # The low-resolution files are MATLAB's bicubic, so making them must give the same figure.
    made = {key: value for key, value in config.items() if key not in ("data_lq", "protocol")}
    assert main(made).mean["psnr_uint8_y_crop4"] == pytest.approx(32.2096, abs=1e-4)


def test_the_noise_of_the_kodak_protocol_is_the_published_one(data):
    """Catches noise that is rounded or not clipped: the noisy input itself has 20.43 dB on the first eight images."""
    result = run_protocol("kodak24_n2n", Identity(), data("lowlevel") / "Kodak_part")
    assert result.mean["psnr_uint8_rgb"] == pytest.approx(20.426, abs=1e-3)


def test_protocols_are_found_by_name():
    """Catches a protocol filed under another name, and a silent default."""
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
    assert {"set12_sigma25_kair", "bsd68_sigma50_kair", "set5_x4_y", "set5_x2_y", "kodak24_n2n"} <= set(PROTOCOLS)
    with pytest.raises(WithinError, match="set5_x4_y"):
        find_protocol("set5")
    with pytest.raises(WithinError, match="degraded images"):
        find_protocol("set5_x4_y").dataset("anywhere")


def test_the_usual_protocol_needs_to_know_what_is_restored():
    """Catches an evaluation of clean images against themselves."""
    assert usual_protocol(channels=3, scale=4).degradation == BicubicDownscale(4)
    assert usual_protocol(channels=1, sigma=25).color == "gray"
    with pytest.raises(WithinError, match="sigma"):
        usual_protocol(channels=3)
    with pytest.raises(WithinError, match="already"):
        usual_protocol(channels=3, sigma=25, paired=True)


def test_main_says_what_its_configuration_lacks(tmp_path):
    """Catches misspelt keys that are ignored."""
    with pytest.raises(WithinError, match=r"has no weights, data: netwrok"):
        main({"network": "dncnn_s", "netwrok": "dncnn_s"})
    write_image(tmp_path / "a.png", sample_image("coffee")[:32, :32])
    config = {"network": "ffdnet_gray", "weights": tmp_path / "w.safetensors", "data": tmp_path}
    with pytest.raises(WithinError, match=r"w\.safetensors"):
        main(config)


def test_a_network_that_takes_the_noise_level_is_given_it(tmp_path):
    """Catches a network called with one argument where it needs two."""
    model = build("ffdnet_gray")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    picture = sample_image("camera")[:32, :32]
    write_image(tmp_path / "images" / "a.png", picture)
    config = {"network": "ffdnet_gray", "weights": tmp_path / "w.safetensors", "data": tmp_path / "images", "sigma": 25}
    noisy = torch.from_numpy(GaussianNoise(25, "kair")(picture, np.random.default_rng(0)).transpose(2, 0, 1))[None]
    with torch.no_grad():
        expected = model.eval()(noisy, torch.full((1, 1, 1, 1), 25 / 255))[0].clamp(0, 1)
    assert main(config).mean["psnr_uint8_rgb"] == pytest.approx(psnr(expected, picture))
    (tmp_path / "lq").mkdir()
    write_image(tmp_path / "lq" / "a.png", picture)
    with pytest.raises(WithinError, match="how strong"):
        main({**{key: value for key, value in config.items() if key != "sigma"}, "data_lq": tmp_path / "lq"})
