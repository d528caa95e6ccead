"""ESPNetv2: the counts and weights of its authors, its pooling, and clear errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.segmentation.test_espnet import CITYSCAPES_TO_CAMVID, accuracy, street  # noqa: F401
from torch import nn

from within.core import Macs, Params, prune, trace
from within.core.errors import WithinError
from within.segmentation.models.espnet_v2 import ESPNetV2
from within.segmentation.models.espnet_v2_blocks import PyramidPooling
from within.segmentation.weights import load_espnet_v2

# Parameters, and MACs of the convolutions at 512x1024 as an independent count by hooks gives them, with those published
# in millions; the authors count half a MAC for the bias of each score.
COUNTS = {
    0.5: (80_342, 596_248_176, "597.56"),
    1.0: (234_010, 1_085_283_952, "1086.59"),
    1.5: (468_362, 1_713_255_536, "1714.57"),
}
FILE = "espnetv2_s1.0_cityscapes_1024x512.safetensors"


@pytest.mark.parametrize("scale", COUNTS)
def test_parameters_and_macs_as_published(scale: float):
    parameters, macs, published = COUNTS[scale]
    graph = trace(ESPNetV2(scale=scale), (torch.zeros(1, 3, 512, 1024),))
    assert (Params()(graph), Macs()(graph)) == (parameters, macs)
    assert graph.shapes[graph.operators[-1].name] == (1, 20, 512, 1024)
    scores = 20 * 256 * 512
    assert f"{(macs + scores / 2) / 1e6:.2f}" == published


def test_cityscapes_weights_label_another_city(data: Callable[[str], Path], street: list):  # noqa: F811
    """CamVid's images, cropped to a multiple of 16, by the classes that both data sets name."""
    network = ESPNetV2().eval()
    load_espnet_v2(network, data("segmentation") / "weights" / FILE)
    cropped = [(image[:, :, :352], label[:352]) for image, label in street]
    assert accuracy(network, cropped, CITYSCAPES_TO_CAMVID) > 0.8
    with torch.no_grad():
        scores = network(cropped[0][0])[0, :4, 200, 240]
    # What the public code computes for this pixel.
    torch.testing.assert_close(scores, torch.tensor([-3.269911, 1.917701, 2.106303, -2.350359]), atol=1e-3, rtol=0)


def test_every_published_tensor_is_used_and_wrong_files_are_refused(data: Callable[[str], Path], tmp_path: Path):
    file = data("segmentation") / "weights" / FILE
    network, published = ESPNetV2(), load_file(file)
    load_espnet_v2(network, file)
    own = network.state_dict()
    assert len(own) == len(published)
    assert sorted(tensor.sum().item() for tensor in own.values()) == sorted(
        tensor.sum().item() for tensor in published.values()
    )
    again = ESPNetV2()
    save_file(own, tmp_path / "own.safetensors")
    load_espnet_v2(again, tmp_path / "own.safetensors")
    assert all(torch.equal(tensor, own[name]) for name, tensor in again.state_dict().items())
    with pytest.raises(WithinError, match=r"of another shape \(.*\(32, 3, 3, 3\) instead of \(16, 3, 3, 3\)"):
        load_espnet_v2(ESPNetV2(scale=0.5), file)
    with pytest.raises(WithinError, match=r"head.expand.weight \(20, 10, 1, 1\) instead of \(21, 10, 1, 1\)"):
        load_espnet_v2(ESPNetV2(20), file)


def test_image_is_left_alone_and_sizes_are_named():
    torch.manual_seed(0)
    network, image = ESPNetV2(4, scale=0.5, void=False).eval(), torch.rand(1, 3, 48, 80) * 255
    copy = image.clone()
    first = network(image)
    assert first.shape == (1, 4, 48, 80)
    assert torch.equal(image, copy)
    torch.testing.assert_close(network(image), first)
    assert (network.classes, network.void_class, network.size_multiple) == (4, None, 16)
    with pytest.raises(WithinError, match=r"multiples of 16, not 360 x 480.*368 x 480"):
        network(torch.zeros(1, 3, 360, 480))


@pytest.mark.parametrize("arguments", [{"scale": 0.75}, {"classes": 0}, {"classes": 1, "void": False}])
def test_networks_that_do_not_exist_are_refused(arguments: dict):
    with pytest.raises(WithinError):
        ESPNetV2(**arguments)


@pytest.mark.parametrize("size", [4, 12, 20])
def test_pooling_merges_the_scales_of_each_channel_by_itself(size: int):
    """Where the depthwise layers pass values on, a constant stays one, at any size, and channels do not mix."""
    torch.manual_seed(0)
    pooling = PyramidPooling(6, 3, 4).eval()
    merged: list[torch.Tensor] = []
    pooling.merge.register_forward_pre_hook(lambda module, inputs: merged.append(inputs[0]))
    for layer in pooling.scales:
        nn.init.dirac_(layer.weight, groups=3)
    constant = torch.arange(1.0, 7.0).reshape(1, 6, 1, 1).expand(1, 6, size, size)
    assert pooling(constant).shape == (1, 4, size, size)
    reduced = pooling.normalised(pooling.reduce(constant).repeat(1, 5, 1, 1))[:, :3]
    torch.testing.assert_close(
        merged[0].unflatten(1, (3, 5)), reduced[:, :, None].expand(-1, -1, 5, -1, -1), atol=1e-5, rtol=0
    )


def test_half_widths_with_the_head_kept():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 48, 64) * 255
    network = ESPNetV2(scale=0.5).eval()
    result = prune(network, (image,), widths=0.5, protect=["head"])
    assert result.model(image).shape == (1, 20, 48, 64)
    assert result.certificate.masked_slim_error < 1e-5
    assert Macs()(trace(result.model, (image,))) < 0.7 * Macs()(result.graph)
