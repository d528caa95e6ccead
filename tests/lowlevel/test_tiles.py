"""Tiles: equal to the whole image, within the predicted memory, and refused where they would not be equal."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from within.core.cost import PeakMemory
from within.core.device.memory import StorageCounter
from within.core.errors import WithinError
from within.core.graph import trace
from within.lowlevel.data import read_image
from within.lowlevel.models import build, restore, variant
from within.lowlevel.receptive_field import receptive_field
from within.lowlevel.tiles import plan, run_tiled, tiled
from within.lowlevel.weights import load_weights

MIB = 2**20
# Networks whose outputs depend on near pixels only, in small forms; and a size to try.
LOCAL = {
    "dncnn_s": ({"depth": 6, "width": 16}, (61, 83)),
    "edsr_baseline_x4": ({"depth": 2, "width": 16}, (47, 66)),
    "carn_m_x3": ({"width": 16}, (73, 98)),
    "msrresnet_x3": ({"depth": 1, "width": 16}, (45, 57)),
    "rrdbnet_x2": ({"depth": 1, "width": 16, "growth": 8}, (115, 122)),
    "imdn_rtc_x2": ({"depth": 2}, (55, 71)),
    "ffdnet_gray": ({"depth": 5, "width": 16}, (61, 83)),
    "dce_net": ({"width": 8}, (63, 50)),
    "unet": ({"widths": (8, 16, 16)}, (131, 150)),
    "n2n_unet": ({"width": 8}, (609, 481)),
}
UP = ["transposed", "shuffle", "nearest", "bilinear", "bicubic"]
REFUSED = {
    "imdn_x2": ({"depth": 1}, "std in blocks.0.attention"),
    "rcan_x2": ({"groups": 1, "depth": 2, "width": 16, "reduction": 4}, "global pooling"),
    "nafnet_sidd_w32": ({"width": 8, "encoder": (1, 1), "middle": 1, "decoder": (1, 1)}, "global pooling"),
    "restormer": ({"width": 16, "depths": (1, 1, 1, 1), "refinement": 1}, "attention over the whole image"),
    "cyclegan_resnet9": ({"width": 8, "depth": 1}, "instance_norm in head.1"),
}


def network(name, **arguments) -> tuple[nn.Module, int, tuple[torch.Tensor, ...]]:
    """Returns a network, the channels of its image, and its other inputs."""
    torch.manual_seed(0)
    found = variant(name)
    others = (torch.full((1, 1, 1, 1), 0.1),) if "noise_level" in found.inputs else ()
    return build(name, **arguments).eval(), found.channels, others


def reach_of(model: nn.Module, size: int, channels: int = 1) -> tuple[int, int]:
    """Returns how far before and behind itself a middle output pixel depends on the input, by its gradient."""
    image = torch.rand(1, channels, size, size, dtype=torch.float64, requires_grad=True)
    model = model.double().eval()
    output = model(image)
    scale = output.shape[-1] // size
    furthest = [0, 0]
    for phase in range(scale):
        middle = size // 2
        (gradient,) = torch.autograd.grad(
            output[0, :, middle * scale + phase, middle * scale].sum(), image, retain_graph=True
        )
        rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        furthest = [max(furthest[0], middle - int(rows.min())), max(furthest[1], int(rows.max()) - middle)]
    return furthest[0], furthest[1]


@pytest.mark.parametrize(
    ("name", "radius", "stride"),
    [("dncnn_s", 17, 1), ("dncnn_b", 20, 1), ("ffdnet_gray", 31, 2), ("n2n_unet", 189, 32)],
)
def test_known_receptive_fields(name, radius, stride):
    """Would catch a miscounted convolution: DnCNN of 17 layers sees 35 pixels, 17 to each side."""
    model, channels, others = network(name)
    field = receptive_field(trace(model, (torch.empty(1, channels, 64, 64), *others)))
    assert (field.radius, field.stride, field.non_local) == (radius, stride, ())


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("convolution"), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2])),
            st.tuples(st.just("down"), st.sampled_from([2, 3]), st.just(2)),
            st.tuples(st.just("pool"), st.just(2), st.just(2)),
            st.tuples(
                st.sampled_from(["transposed", "shuffle", "nearest", "bilinear", "bicubic"]), st.just(2), st.just(2)
            ),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_receptive_field_holds_every_pixel_that_matters(layers):
    """Would catch a rule that counts too little: the gradient of an output pixel must vanish outside the radius."""
    torch.manual_seed(0)
    modules, jump = [], 1.0
    for kind, kernel, step in layers:
        if (kind in ("down", "pool") and jump == 4) or (kind not in ("down", "pool", "convolution") and jump == 0.5):
            continue
        if kind == "convolution":
            modules.append(nn.Conv2d(1, 1, kernel, padding=step * (kernel // 2), dilation=step))
        elif kind == "down":
            modules.append(nn.Conv2d(1, 1, kernel, stride=2, padding=(kernel - 1) // 2))
        elif kind == "pool":
            modules.append(nn.AvgPool2d(2))
        elif kind == "transposed":
            modules.append(nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1))
        elif kind == "shuffle":
            modules += [nn.Conv2d(1, 4, 1), nn.PixelShuffle(2)]
        else:
            modules.append(nn.Upsample(scale_factor=2, mode=kind))
        jump *= 2 if kind in ("down", "pool") else 1 if kind == "convolution" else 0.5
    modules += [nn.Upsample(scale_factor=2)] * round(math.log2(max(jump, 1)))
    model = nn.Sequential(*modules)
    field = receptive_field(trace(model, (torch.empty(1, 1, 128, 128),)))
    assert field.scale >= 1
    before, after = reach_of(model, 128)
    assert max(before, after) <= field.radius
    if all(kind == "convolution" for kind, _, _ in layers):
        assert max(before, after) == field.radius


@pytest.mark.parametrize("name", LOCAL)
def test_tiles_equal_the_whole_image_within_the_predicted_memory(name):
    """Would catch a halo too small, a tile out of place at odd sizes or borders, and memory nobody predicted."""
    arguments, (height, width) = LOCAL[name]
    model, channels, others = network(name, **arguments)
    image = torch.rand(1, channels, height, width)
    whole = plan(model, 2**50, height, width, channels=channels, others=others)
    assert (whole.rows, whole.columns, whole.exact) == (1, 1, True)
    budget = 0.8 * whole.peak_bytes
    cut = plan(model, budget, height, width, channels=channels, others=others)
    assert cut.rows * cut.columns > 1
    assert cut.exact
    assert cut.peak_bytes <= budget
    assert cut.untiled_bytes == whole.peak_bytes
    run = tiled(model, cut, *others)
    counter = StorageCounter([*model.parameters(), *model.buffers(), *others, image])
    with counter:
        output = run(image)
    assert counter.peak + image.numel() * 4 <= cut.peak_bytes
    expected = restore(model, image, *others)
    assert output.shape == expected.shape
    assert float((output - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max()))


@settings(max_examples=8, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.floats(0.45, 0.95))
def test_any_size_and_budget(height, width, fraction):
    """Would catch a rounding of sizes, alignments or counts that only some sizes show."""
    model, _, _ = network("unet", widths=(4, 4))
    torch.manual_seed(height)
    image = torch.rand(1, 3, height, width)
    budget = fraction * plan(model, 2**50, height, width).peak_bytes
    try:
        cut = plan(model, budget, height, width)
    except WithinError:
        return
    assert cut.peak_bytes <= budget
    covered = torch.zeros(height, width, dtype=torch.int64)
    for row, column in cut.tiles():
        covered[row.start : row.end, column.start : column.end] += 1
    assert bool((covered == 1).all())
    assert float((run_tiled(model, image, cut) - restore(model, image)).abs().max()) <= 1e-5


def test_the_tile_is_the_largest_that_fits():
    """Would catch a search that stops early and pays for halos that memory had room for."""
    model, channels, _ = network("dncnn_s", depth=4, width=16)
    budget = 700_000
    cut = plan(model, budget, 90, 120, channels=channels)

    def needed(tile: int) -> int:
        side = tile + 2 * cut.halo
        peak = PeakMemory()(trace(model, (torch.empty(1, 1, min(90, side), min(120, side)),)))
        return peak + 4 * (2 * 90 * 120 + min(90, side) * min(120, side))

    assert needed(cut.tile) <= budget < needed(cut.tile + 1)
    assert cut.overhead == pytest.approx(((cut.tile + 2 * cut.halo) / cut.tile) ** 2)
    assert cut.computed >= 1


def test_least_budget_is_named_and_enough():
    """Would catch a refusal whose advice does not help."""
    model, channels, _ = network("dncnn_s", depth=4, width=16)
    with pytest.raises(WithinError, match="No tile fits") as refused:
        plan(model, 50_000, 90, 120, channels=channels)
    least = float(re.search(r"raise the budget to ([\d.]+) MiB", str(refused.value))[1])
    assert plan(model, (least + 0.01) * MIB, 90, 120, channels=channels).tile >= 1
    with pytest.raises(WithinError, match="cannot be cut into tiles"):
        plan(network("n2n_unet", width=4)[0], 2e5, 64, 64)


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_look_at_the_whole_image_are_refused(name):
    """Would catch tiles that silently change the result."""
    arguments, named = REFUSED[name]
    model, channels, _ = network(name, **arguments)
    size = 40 * model.size_multiple, 41 * model.size_multiple
    full = plan(model, 2**50, *size, channels=channels)
    assert full.exact
    with pytest.raises(WithinError, match="Tiles would change the result") as refused:
        plan(model, 0.9 * full.peak_bytes, *size, channels=channels)
    assert named in str(refused.value)


def test_inexact_tiles_on_demand_with_a_warning():
    """Would catch a plan that claims to be exact, and a run that fails where the user wanted it anyway."""
    model, _, _ = network("imdn_x2", depth=1)
    full = plan(model, 2**50, 60, 70)
    with pytest.warns(UserWarning, match="not exact"):
        cut = plan(model, 0.8 * full.peak_bytes, 60, 70, allow_inexact=True)
    assert not cut.exact
    assert "std in blocks.0.attention" in cut.reason
    output = run_tiled(model, torch.rand(1, 3, 60, 70), cut)
    assert output.shape == (1, 3, 120, 140)


class Wrapped(nn.Module):
    """A convolution between two functions."""

    def __init__(self, before=lambda x: x, after=lambda x: x):
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 1, 3, padding=1)
        self.before, self.after = before, after

    def forward(self, image):
        return self.last(self.after(self.convolution(self.before(image))))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda x: x + torch.linspace(0, 1, x.shape[-1]), "depends on where a pixel is"),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="circular")[..., 1:-1, 1:-1], "around the image"),
        (lambda x: F.interpolate(x, size=x.shape[2:], mode="bilinear", align_corners=True), "aligned corners"),
        (lambda x: x.flip(-1), "runs along the whole image"),
        (lambda x: x.softmax(dim=2), "runs along the whole image"),
        (lambda x: x - x.amax(dim=(2, 3), keepdim=True), "reduced over the whole image"),
        (lambda x: F.grid_sample(x, torch.zeros(1, x.shape[2], x.shape[3], 2)), "nothing is known"),
        (lambda x: x.reshape(1, 8, 2, -1, x.shape[3])[:, :, 0].repeat(1, 1, 2, 1), "taken apart"),
        (lambda x: x.reshape(1, 8, 2, -1, x.shape[3]).transpose(2, 3).reshape(x.shape), "rearranges the pixels"),
    ],
)  # fmt: skip
def test_operators_that_tiles_cannot_compute_are_named(change, why):
    """Would catch an operator that depends on the place of a pixel or on the size of the image and is let through."""
    with pytest.raises(WithinError, match=r"Tiles would change the result|is no image whose") as refused:
        plan(Wrapped(after=change), 200_000, 120, 120, channels=1)
    assert re.search(why, str(refused.value)), str(refused.value)


def unshuffled(x: torch.Tensor) -> torch.Tensor:
    """2x2 blocks of pixels as channels, by views."""
    batch, channels, height, width = x.shape
    blocks = x.view(batch, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(batch, 4 * channels, height // 2, width // 2)


def shuffled(x: torch.Tensor) -> torch.Tensor:
    """The inverse."""
    batch, channels, height, width = x.shape
    blocks = x.view(batch, channels // 4, 2, 2, height, width)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels // 4, 2 * height, 2 * width)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + torch.zeros(x.shape[2:]),
        lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        lambda x: x.flatten(2).relu().unflatten(2, x.shape[2:]),
        lambda x: F.pad(x, (2, 2, 2, 2), mode="reflect")[..., 2:-2, 2:-2],
        lambda x: torch.cat([chunk.sigmoid() for chunk in x.chunk(4, dim=1)], dim=1),
        lambda x: x * x.mean(dim=1, keepdim=True),
        lambda x: F.pixel_shuffle(unshuffled(x), 2),
        lambda x: shuffled(F.pixel_unshuffle(x, 2)),
        lambda x: shuffled(unshuffled(x).softmax(dim=1)),
    ],
)
def test_operators_that_stay_with_their_pixels_are_let_through(change):
    """Would catch a refusal of a network that tiles compute exactly."""
    model = Wrapped(after=change).eval()
    image = torch.rand(1, 1, 60, 70)
    cut = plan(model, 120_000, 60, 70, channels=1)
    assert cut.rows * cut.columns > 1
    with torch.no_grad():
        torch.testing.assert_close(run_tiled(model, image, cut), model(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
def test_borders_of_the_image_keep_the_padding_of_the_network(mode):
    """Would catch a tile at the border that pads as if it lay inside, or the other way round."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 5, padding=2, padding_mode=mode), nn.Conv2d(8, 1, 3, padding=1, padding_mode=mode)]
    model, image = nn.Sequential(*layers).eval(), torch.rand(1, 1, 50, 61)
    cut = plan(model, 80_000, 50, 61, channels=1)
    assert cut.rows > 1
    assert cut.columns > 1
    with torch.no_grad():
        torch.testing.assert_close(run_tiled(model, image, cut), model(image), atol=1e-6, rtol=0)


def test_strides_that_leave_a_remainder():
    """Would catch tiles that start between two steps of the network: this one takes odd sizes only, in steps of 2."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1)]
    model, image = nn.Sequential(*layers).eval(), torch.rand(1, 1, 63, 91)
    cut = plan(model, 60_000, 63, 91, channels=1)
    assert cut.alignment == 2
    assert cut.rows * cut.columns > 1
    with torch.no_grad():
        torch.testing.assert_close(run_tiled(model, image, cut), model(image), atol=1e-6, rtol=0)
    with pytest.raises(WithinError, match="is no image whose"):
        plan(model, 60_000, 64, 90, channels=1)


def test_a_plan_can_come_from_a_function_to_graphs():
    """Would catch a plan that depends on more than the graphs."""
    model, channels, _ = network("dncnn_s", depth=4, width=16)
    made = plan(lambda height, width: trace(model, (torch.empty(1, 1, height, width),)), 700_000, 90, 120)
    assert made == plan(model, 700_000, 90, 120, channels=channels)


def test_wrong_images_are_refused():
    """Would catch an image of another size that is cut by a plan that is not for it."""
    model, channels, others = network("ffdnet_gray", depth=3, width=8)
    made = plan(model, 400_000, 90, 120, channels=channels, others=others)
    with pytest.raises(WithinError, match="The plan is for an image"):
        run_tiled(model, torch.rand(1, 1, 90, 118), made, *others)
    with pytest.raises(WithinError, match="is a map"):
        run_tiled(model, torch.rand(1, 1, 90, 120), made, torch.rand(1, 1, 45, 60))
    with pytest.raises(WithinError, match="impossible"):
        plan(model, 0, 90, 120, channels=channels, others=others)


def test_published_weights_on_a_photograph(data):
    """Would catch a difference that random weights are too tame to show."""
    folder = data("lowlevel")
    model = build("dncnn_merged").eval()
    load_weights(model, folder / "weights" / "dncnn_25_bnmerged_kair.safetensors")
    gray = read_image(folder / "Set12" / "01.png")[:, :, 0].astype(np.float32) / 255
    image = torch.from_numpy(gray[:143, :181])[None, None]
    cut = plan(model, 6 * MIB, *image.shape[2:], channels=1)
    assert cut.rows * cut.columns > 1
    assert float((run_tiled(model, image, cut) - restore(model, image)).abs().max()) <= 1e-5
