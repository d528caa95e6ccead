"""SwiftNet must be the published network: sizes, coupling, levels and counts, and harmless to what it is given."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from within.core import Macs, Params, trace
from within.core.errors import WithinError
from within.segmentation.models import SwiftNetPyramid, SwiftNetSingleScale, build, names
from within.segmentation.models.norm_relu_conv import resize


def image(height: int = 64, width: int = 128) -> torch.Tensor:
    return 255 * torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("swiftnet_rn18", {}, 11_797_071),
        ("swiftnet_rn18", {"classes": 11}, 11_796_039),
        ("swiftnet_rn34", {}, 21_905_231),
        ("swiftnet_pyramid_rn18", {}, 12_056_275),
        ("swiftnet_pyramid_rn18", {"output_stride": 8}, 11_900_371),
        ("swiftnet_pyramid_rn34", {}, 22_179_283),
        ("swiftnet_ade20k", {}, 22_040_278),
    ],
)
def test_parameters_are_the_published_ones(name, arguments, parameters):
    assert sum(value.numel() for value in build(name, **arguments).parameters()) == parameters


def test_macs_are_the_published_ones_at_a_sixteenth_of_the_area():
    """All sizes are divided by four without a remainder, so MACs are a sixteenth, but for the pooled grids."""
    graph = trace(build("swiftnet_pyramid_rn18").eval(), (torch.zeros(1, 3, 256, 512),))
    assert Macs()(graph) * 16 == 128_192_610_304
    assert Params()(graph) == 12_056_275


@pytest.mark.parametrize("network", [SwiftNetSingleScale, SwiftNetPyramid])
@pytest.mark.parametrize("depth", [(1, 1, 1, 1), "mobilenet_v2"])
def test_scores_have_the_size_of_the_image_which_is_left_alone(network, depth):
    given = image(128, 256)
    before = given.clone()
    model = network(5, depth=depth, width=8, features=12).eval()
    with torch.no_grad():
        first, second = model(given), model(given)
    assert first.shape == (1, 5, 128, 256)
    assert torch.equal(given, before)
    assert torch.equal(first, second)


def test_single_scale_takes_any_size():
    model = SwiftNetSingleScale(4, depth=(1, 1, 1, 1), width=4, features=6).eval()
    assert model(image(75, 101)).shape == (1, 4, 75, 101)


def test_the_pyramid_refuses_sizes_that_do_not_meet():
    model = SwiftNetPyramid(4, depth=(1, 1, 1, 1), width=4, features=6).eval()
    with pytest.raises(WithinError, match="multiples of 128"):
        model(image(73, 164))


def test_every_level_has_its_own_batch_norm_but_not_its_own_weights_or_shortcut():
    model = SwiftNetPyramid(4, depth=(1, 1, 1, 1), width=4, features=6).train()
    block = model.encoder.stages[1][0]
    assert len(block.norm1.levels) == len(model.encoder.stem.norm.levels) == 3
    assert isinstance(block.shortcut[1], torch.nn.BatchNorm2d)
    before = copy.deepcopy(model.state_dict())
    model.encoder(image(), 1)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(".levels.1." in name for name in changed)
    assert not any(".levels.0." in name or ".levels.2." in name for name in changed)


def test_features_are_taken_before_their_relu():
    """The decoder normalises first: features that were clipped already would lose their negative half."""
    encoder = SwiftNetSingleScale(4, depth=(1, 1, 1, 1), width=8, features=6).eval().encoder
    assert all(bool((feature < 0).any()) for feature in encoder(image()))


def test_features_of_the_pyramid_meet_where_their_sizes_are_equal():
    """Slot l + s, against the sum written out."""
    model = SwiftNetPyramid(3, depth=(1, 1, 1, 1), width=4, features=6, levels=2).eval()
    given = image(128, 128)
    x = model.normalise(given)
    half = F.interpolate(x, scale_factor=0.5, mode="bicubic", align_corners=False)
    with torch.no_grad():
        a, b = ([lateral(f) for lateral, f in zip(model.laterals, model.encoder(level, number))]
                for number, level in enumerate((x, half)))  # fmt: skip
        slots = [a[0], a[1] + b[0], a[2] + b[1], a[3] + b[2], b[3]]
        y = slots.pop()
        for blend in model.blends:
            finer = slots.pop()
            y = blend(resize(y, finer.shape[-2:]) + finer)
        expected = resize(model.logits(y), (128, 128))
        torch.testing.assert_close(model(given), expected)


def test_unknown_names_are_answered_with_similar_ones():
    with pytest.raises(WithinError, match="swiftnet_rn18"):
        build("swiftnet_rn19")
    with pytest.raises(WithinError, match="output_stride"):
        build("swiftnet_pyramid_rn18", stride=8)
    assert "swiftnet_mobilenet_v2" in names()
