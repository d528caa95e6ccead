"""Weights in the layout of orsic/swiftnet: every tensor to its place, and the arguments that the file speaks for.

The names are those of their code, written down from its module tree. Outputs of the loaded networks were compared with
that code's (ResNet-18 and -34, one scale and pyramid): relative difference 3e-8 in double precision.
"""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from within.core.errors import WithinError
from within.segmentation.models import SwiftNetPyramid, SwiftNetSingleScale
from within.segmentation.named_network import open_network
from within.segmentation.weights import load_swiftnet

TO_THEIRS = (
    (r"^encoder\.stem\.conv\.", "backbone.conv1."),
    (r"^encoder\.stem\.norm\.", "backbone.bn1."),
    *((rf"^encoder\.stages\.{stage}\.", f"backbone.layer{stage + 1}.") for stage in range(4)),
    (r"^(backbone.*)\.norm(\d)\.", r"\1.bn\2."),
    (r"\.shortcut\.", ".downsample."),
    (r"^context\.first\.", "backbone.spp.spp.spp_bn."),
    (r"^context\.fuse\.", "backbone.spp.spp.spp_fuse."),
    (r"^context\.levels\.", "backbone.spp.spp.spp"),
    (r"^bottlenecks\.(\d)\.", r"backbone.upsample.\1.bottleneck."),
)
SINGLE = ((r"\.(bn\d)\.levels\.0\.", r".\1."), (r"^blends\.(\d)\.", r"backbone.upsample.\1.blend_conv."))
PYRAMID = (
    (r"\.(bn\d)\.levels\.", r".\1."),
    (r"^blends\.(\d)\.", r"backbone.upsample_blends.\1.blend_conv."),
    *((rf"^laterals\.{place}\.", f"backbone.upsample_bottlenecks.{3 - place}.") for place in range(4)),
)
MEAN, DEVIATION = (73.0, 82.0, 72.0), (44.0, 46.0, 45.0)


def theirs(network: nn.Module, scale: float = 1.0) -> dict[str, Tensor]:
    """Returns the state of a network under their names."""
    found = {}
    for name, value in network.state_dict().items():
        for pattern, replacement in (*TO_THEIRS, *(PYRAMID if isinstance(network, SwiftNetPyramid) else SINGLE)):
            name = re.sub(pattern, replacement, name)
        found[name] = value
    found["backbone.img_mean"] = torch.tensor(MEAN).view(1, 3, 1, 1) / scale
    found["backbone.img_std"] = torch.tensor(DEVIATION).view(1, 3, 1, 1) / scale
    return found if scale == 1 else found | {"backbone.img_scale": torch.tensor(scale).view(1, 1, 1, 1)}


def randomised(network: nn.Module) -> nn.Module:
    """Gives every batch norm statistics of its own: fresh ones are alike, and hide what is mixed up."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_mean, module.bias.data):
                nn.init.uniform_(value, -0.5, 0.5)
            for value in (module.running_var, module.weight.data):
                nn.init.uniform_(value, 0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("swiftnet_rn18", 1.0, SwiftNetSingleScale(3, mean=MEAN, deviation=DEVIATION, rectified=True)),
        ("swiftnet_pyramid_rn18", 255.0, SwiftNetPyramid(3, mean=MEAN, deviation=DEVIATION)),
    ],
)
def test_a_published_file_becomes_the_same_network(tmp_path, name, scale, expected):
    """Would catch laterals in the wrong order, statistics of another level, and normalisation that is lost."""
    state = theirs(randomised(expected), scale)
    assert all(key.startswith(("backbone.", "logits.")) for key in state)
    torch.save(state, tmp_path / "swiftnet.pt")
    found = open_network(name, weights=tmp_path / "swiftnet.pt", arguments={"classes": 3})
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[key], value, rtol=0, atol=0)
    image = 255 * torch.rand(1, 3, 128, 128)
    torch.testing.assert_close(found.model.eval()(image), expected(image), rtol=1e-4, atol=1e-4)
    assert found.arguments.get("rectified", False) == getattr(expected, "rectified", False)


def test_a_network_built_for_other_images_is_refused(tmp_path):
    """Would catch weights that work on images of another mean: wrong by some points, and nothing says so."""
    network = SwiftNetSingleScale(3, depth=(1, 1, 1, 1), width=8, features=6, mean=MEAN, deviation=DEVIATION)
    torch.save(theirs(network), tmp_path / "swiftnet.pt")
    with pytest.raises(WithinError, match=r"another rectified.*rectified=True"):
        load_swiftnet(network, tmp_path / "swiftnet.pt")
    other = SwiftNetSingleScale(3, depth=(1, 1, 1, 1), width=8, features=6, rectified=True)
    with pytest.raises(WithinError, match="another mean and another deviation"):
        load_swiftnet(other, tmp_path / "swiftnet.pt")


def test_the_decoder_takes_features_before_or_after_their_relu():
    """The public code's ReLU works in place, so its laterals are what its authors did not mean them to be."""
    torch.manual_seed(0)
    network = randomised(SwiftNetSingleScale(3, depth=(1, 1, 1, 1), width=8, features=6))
    image = 255 * torch.rand(1, 3, 64, 64)
    before = network(image)
    network.rectified = True
    assert not torch.allclose(network(image), before)
    for stage in network.encoder.stages:
        stage.register_forward_hook(lambda module, inputs, outputs: (outputs[1], outputs[1]))
    network.rectified = False
    after = network(image)
    network.rectified = True
    torch.testing.assert_close(network(image), after, rtol=0, atol=0)
