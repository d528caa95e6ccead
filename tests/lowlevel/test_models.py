"""The networks: counts of the papers, sizes they take, tracing, and what each docstring claims."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from within.core.errors import WithinError
from within.lowlevel.models import (
    build,
    check_size,
    crop,
    example_inputs,
    names,
    pad_to_multiple,
    restore,
    variant,
)
from within.lowlevel.models.dce_net import apply_curves
from within.lowlevel.models.unet import UNet

# Parameters, and MACs in G as printed in the papers' conventions (conv and matmul), for the input size of the variant.
COUNTS = {
    "dncnn_s": (556_032, "36.3143"),
    "dncnn_merged": (555_137, "36.3143"),
    "dncnn_b": (667_008, "43.5620"),
    "ffdnet_gray": (485_316, None),
    "imdn_x2": (694_404, "158.7659"),
    "imdn_x4": (715_176, "40.8859"),
    "imdn_rtc_x2": (20_190, "1.7193"),
    "carn_x2": (1_591_963, "222.831"),
    "carn_x4": (1_591_963, "90.882"),
    "carn_m_x2": (414_811, "91.182"),
    "carn_m_x4": (414_811, "32.490"),
    "edsr_baseline_x2": (1_369_859, "316.2489"),
    "edsr_baseline_x4": (1_517_571, "114.2305"),
    "edsr_large_x4": (43_089_923, "2894.5465"),
    "msrresnet_x2": (1_369_859, "341.7293"),
    "msrresnet_x4": (1_517_571, "146.0810"),
    "rcan_x4": (15_592_355, "916.8631"),
    "rrdbnet_x4": (16_697_987, "1032.5864"),
    "nafnet_sidd_w32": (29_159_715, "16.0450"),
    "nafnet_sidd_w64": (115_982_915, "63.2364"),
    "nafnet_gopro_w32": (17_111_907, "15.9560"),
    "nafnet_gopro_w64": (67_888_835, "63.0550"),
    "restormer": (26_126_644, "154.8820"),
    "restormer_gray": (26_109_076, None),
    "cyclegan_resnet9": (11_378_179, "49.5515"),
    "n2n_unet": (700_611, "13.2059"),
    "pmrid": (1_031_908, "0.9811"),
    "dce_net": (79_416, "5.1905"),
}

# One small form of every network and of every way it is built.
SMALL = {
    "dncnn_s": {"depth": 4},
    "dncnn_merged": {"depth": 4},
    "ffdnet_gray": {"depth": 4},
    "imdn_x3": {"depth": 2},
    "imdn_rtc_x2": {"depth": 2},
    "carn_x3": {},
    "carn_m_x4": {},
    "edsr_baseline_x2": {"depth": 2},
    "edsr_large_x4": {"depth": 2, "width": 8},
    "msrresnet_x3": {"depth": 2},
    "msrresnet_x4": {"depth": 2},
    "rcan_x2": {"groups": 2, "depth": 2},
    "rrdbnet_x2": {"depth": 1},
    "rrdbnet_x4": {"depth": 1},
    "nafnet_sidd_w32": {"width": 8, "encoder": (1, 1), "middle": 1, "decoder": (1, 1)},
    "restormer": {"width": 16, "depths": (1, 1, 1, 1), "refinement": 1},
    "restormer_gray": {"width": 16, "depths": (1, 1, 1, 1), "refinement": 1},
    "cyclegan_resnet9": {"width": 8, "depth": 2},
    "n2n_unet": {"width": 8},
    "pmrid": {},
    "dce_net": {"width": 8},
    "unet": {"width": 8, "levels": 3},
    "unet_denoise": {},
}


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **SMALL[name]).eval()


def sizes_for(model: nn.Module) -> tuple[int, int]:
    """An odd multiple of what the network needs, the smallest above ten pixels."""
    multiple = model.size_multiple
    return multiple * (max(11 // multiple, 1) | 1), multiple * (max(17 // multiple, 1) | 1)


@pytest.mark.parametrize("name", names())
def test_counts_are_exact(name: str) -> None:
    """A layer too many, a bias missing, a width or a stride wrong anywhere."""
    found = variant(name)
    with torch.device("meta"):
        model, inputs = build(name).eval(), example_inputs(name, *found.size)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            output = model(*inputs)
    params, macs = sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2
    assert (params, macs) == (found.parameters, found.macs)
    assert output.shape == (1, found.channels, found.size[0] * found.scale, found.size[1] * found.scale)
    assert model.scale == found.scale
    if name in COUNTS:
        published, giga = COUNTS[name]
        assert params == published
        if giga is not None:
            assert f"{macs / 1e9:.{len(giga.split('.')[1])}f}" == giga


@pytest.mark.parametrize("name", SMALL)
def test_every_multiple_is_taken_and_no_less(name: str) -> None:
    """A size_multiple that is too small, or needlessly large."""
    model = small(name)
    height, width = sizes_for(model)
    with torch.no_grad():
        output = model(*example_inputs(name, height, width))
        assert output.shape[-2:] == (height * model.scale, width * model.scale)
        assert torch.isfinite(output).all()
        check_size(model, height, width)
        if model.size_multiple > 1:
            shorter = height + model.size_multiple // 2
            with pytest.raises(WithinError, match="pad to"):
                check_size(model, shorter, width)
            try:
                wrong = model(*example_inputs(name, shorter, width))
            except (RuntimeError, TypeError):
                return
            assert wrong.shape[-2] != shorter * model.scale


@pytest.mark.parametrize("name", SMALL)
def test_restore_takes_any_size(name: str) -> None:
    """Padding on the wrong side, a crop that forgets the scale, gradients kept at inference."""
    model = small(name)
    image, *others = example_inputs(name, 37, 41)
    output = restore(model, image, *others)
    assert output.shape == (1, image.shape[1], 37 * model.scale, 41 * model.scale)
    assert not output.requires_grad


@pytest.mark.parametrize("name", SMALL)
def test_export_traces_and_agrees(name: str) -> None:
    """Control flow on data, or a traced graph that computes something else."""
    model = small(name)
    inputs = example_inputs(name, *sizes_for(model))
    program = torch.export.export(model, inputs, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(*inputs), model(*inputs), rtol=0, atol=0)


def test_small_forms_cover_every_network() -> None:
    """A network that is added without a test."""
    assert {variant(name).network for name in SMALL} == {variant(name).network for name in names()}


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.integers(1, 40))
def test_padding_is_numpys_reflection_and_crops_back(height: int, width: int, multiple: int) -> None:
    """A reflection longer than the image, one-pixel images, rows and columns mixed up."""
    image = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(image, multiple)
    below, right = -height % multiple, -width % multiple
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect")
    np.testing.assert_array_equal(padded.numpy(), expected)
    assert torch.equal(crop(padded, height, width), image)


def test_restore_equals_the_network_where_no_padding_is_needed() -> None:
    model = small("n2n_unet")
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(restore(model, image), model(image))


def test_dncnn_output_is_the_image_less_the_noise() -> None:
    torch.manual_seed(0)
    model, image = build("dncnn_s", depth=3).eval(), torch.rand(1, 1, 9, 11)
    restored = restore(model, image)
    model.output = "noise"
    torch.testing.assert_close(restored, image - restore(model, image))


def test_dncnn_without_inplace_has_no_inplace_operator() -> None:
    """The option is forgotten somewhere in the stack."""
    model = build("dncnn_s", depth=4, inplace=False).eval()
    program = torch.export.export(model, (torch.rand(1, 1, 8, 8),), strict=False)
    targets = [str(node.target) for node in program.graph.nodes]
    assert "aten.relu.default" in targets
    assert "aten.relu_.default" not in targets


def test_ffdnet_takes_a_number_or_a_map() -> None:
    """The level broadcast along the wrong axis, or not the last channel for every image of a batch."""
    model = small("ffdnet_gray")
    image = torch.rand(2, 1, 8, 12)
    levels = torch.tensor([0.1, 0.2]).view(2, 1, 1, 1)
    both = restore(model, image, levels)
    torch.testing.assert_close(both, restore(model, image, levels.expand(2, 1, 4, 6)))
    torch.testing.assert_close(both[1:], restore(model, image[1:], torch.full((1, 1, 1, 1), 0.2)))
    assert not torch.allclose(both[:1], restore(model, image[:1], torch.full((1, 1, 1, 1), 0.2)))


def test_shared_blocks_are_shared() -> None:
    """A shared module copied: the published weights of CARN-M and Noise2Noise would not fit."""
    assert [len(block.units) for block in build("carn_m").blocks] == [1, 1, 1]
    assert [len(block.units) for block in build("carn").blocks] == [3, 3, 3]
    program = torch.export.export(small("n2n_unet"), (torch.rand(1, 3, 32, 32),), strict=False)
    uses = [
        node
        for node in program.graph.nodes
        if any("encode_weight" in str(a) or "encode_0_weight" in str(a) for a in node.args)
    ]
    assert len(uses) == 4


def test_carn_has_a_head_for_each_scale() -> None:
    torch.manual_seed(0)
    model, image = build("carn_m").eval(), torch.rand(1, 3, 8, 9)
    for scale in (2, 3, 4):
        model.scale = scale
        assert restore(model, image).shape == (1, 3, 8 * scale, 9 * scale)


def test_distillation_follows_the_widths_of_its_convolutions() -> None:
    """Split sizes that are remembered instead of read: cutting channels would break the block."""
    block = build("imdn_rtc_x2").blocks[0]
    block.conv1 = nn.Conv2d(12, 9, 3, padding=1)
    block.conv2 = nn.Conv2d(6, 12, 3, padding=1)
    assert block(torch.rand(1, 12, 8, 8)).shape == (1, 12, 8, 8)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31 - 1))
def test_curves_keep_the_range_and_the_order(seed: int) -> None:
    """The curve equation: for |r| <= 1 it maps [0, 1] to itself, rises, and keeps 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    curves = (2 * torch.rand(1, 24, 1, 1, generator=generator) - 1).expand(1, 24, 1, 64)
    brightness = torch.linspace(0, 1, 64).expand(1, 3, 1, 64)
    mapped = apply_curves(brightness, curves)
    assert ((mapped >= -1e-6) & (mapped <= 1 + 1e-6)).all()
    assert (mapped.diff(dim=-1) >= -1e-6).all()
    torch.testing.assert_close(mapped[..., [0, -1]], brightness[..., [0, -1]])


def test_pixel_shuffle_up_is_the_transposed_convolution() -> None:
    """The docstring's claim that both are one function."""
    transposed = UNet(width=4, levels=2, up="transposed").eval()
    shuffled = UNet(width=4, levels=2, up="pixel_shuffle").eval()
    state = transposed.state_dict()
    kernel = state.pop("up.0.weight")  # in, out, 2, 2
    state["up.0.0.weight"] = kernel.permute(1, 2, 3, 0).reshape(-1, kernel.shape[0], 1, 1)
    state["up.0.0.bias"] = state.pop("up.0.bias").repeat_interleave(4)
    shuffled.load_state_dict(state)
    image = torch.rand(1, 3, 6, 10)
    torch.testing.assert_close(restore(shuffled, image), restore(transposed, image), rtol=0, atol=1e-5)


def test_unet_options() -> None:
    """Residual output off adds nothing; an unknown way up is refused."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 16)
    model = UNet(width=4, levels=3)
    residual = restore(model, image)
    model.residual = False
    torch.testing.assert_close(residual, image + restore(model, image))
    with pytest.raises(WithinError, match="No upsampling 'bilinear'"):
        UNet(up="bilinear")


def test_the_shipped_denoiser_fits_in_four_megabytes() -> None:
    assert variant("unet_denoise").parameters * 4 <= 4_000_000


def test_unknown_names_are_answered_with_close_ones() -> None:
    with pytest.raises(WithinError, match=r"did you mean .*imdn_x4"):
        build("imdn_4x")
    with pytest.raises(WithinError, match="has no argument height"):
        build("imdn_x4", height=3)


@pytest.mark.parametrize("name", ["carn", "edsr_baseline_x2", "msrresnet_x2", "rrdbnet_x4"])
def test_impossible_scales_are_refused(name: str) -> None:
    with pytest.raises(WithinError, match="choose"):
        build(name, scale=5)


def test_shapes_are_checked_while_tests_run():
    """Would catch a hook that is installed too late, so that no annotation is compared with a real tensor."""
    with pytest.raises(TypeCheckError):
        build("dncnn_s", depth=3, width=8)(torch.zeros(1, 8, 8))
