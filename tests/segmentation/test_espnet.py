"""ESPNet: the counts and weights of its authors, what its blocks claim, and clear errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from within.core import Macs, Params, prune, trace
from within.core.errors import WithinError
from within.segmentation.models.espnet import ESPNet
from within.segmentation.models.espnet_blocks import DILATIONS, ESPModule
from within.segmentation.models.normalisation import CAMVID_DEVIATION, CAMVID_MEAN
from within.segmentation.weights import load_espnet

# Cityscapes: 19 classes and void at 512x1024. MACs as an independent count by hooks gives them: output elements of each
# convolution times its kernel, input elements of each transposed one; published as 3.399, 3.923 and 4.709 G.
COUNTS = {3: (202_649, 3_398_721_536), 5: (267_417, 3_923_009_536), 8: (364_569, 4_709_441_536)}
CITYSCAPES_TO_CAMVID = {10: 0, 2: 1, 5: 2, 0: 3, 1: 4, 8: 5, 7: 6, 4: 7, 13: 8, 11: 9, 18: 10, 12: 10}


def camvid_network(**arguments: int) -> ESPNet:
    return ESPNet(11, q=8, skip="features_and_image", mean=CAMVID_MEAN, deviation=CAMVID_DEVIATION, **arguments).eval()


@pytest.fixture
def weights(data: Callable[[str], Path]) -> Path:
    return data("segmentation") / "weights"


@pytest.fixture
def street(data: Callable[[str], Path]) -> list[tuple[Tensor, np.ndarray]]:
    """Three validation images (1, 3, 360, 480) with their labels."""
    folder = data("segmentation") / "camvid" / "val"
    files = sorted((folder / "images").iterdir())[::40]
    return [(image_of(file), np.array(Image.open(folder / "labels" / f"{file.stem}.png"))) for file in files]


def image_of(file: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)[None].float()


def accuracy(network: nn.Module, pairs: list[tuple[Tensor, np.ndarray]], names: dict[int, int] | None = None) -> float:
    """Share of labelled pixels that are right, where `names` says which label an output stands for."""
    right = labelled = 0
    for image, label in pairs:
        with torch.no_grad():
            found = network(image).argmax(1)[0].numpy()
        if names:
            found = np.array([names.get(number, -1) for number in range(20)])[found]
        right, labelled = right + int((found == label)[label < 11].sum()), labelled + int((label < 11).sum())
    return right / labelled


@pytest.mark.parametrize("q", COUNTS)
def test_parameters_and_macs_as_published(q: int):
    graph = trace(ESPNet(q=q), (torch.zeros(1, 3, 512, 1024),))
    assert (Params()(graph), Macs()(graph)) == COUNTS[q]
    assert graph.shapes[graph.operators[-1].name] == (1, 20, 512, 1024)


def test_older_network_of_camvid_has_the_image_in_its_finest_skip():
    network = camvid_network()
    assert sum(parameter.numel() for parameter in network.parameters()) == 354_517
    assert network.merge_half.convolution.in_channels == 12 + 19
    assert (network.classes, network.void_class) == (11, 11)
    assert Macs()(trace(network, (torch.zeros(1, 3, 360, 480),))) == 1_335_320_100
    assert ESPNet(11, q=8).merge_half.convolution.in_channels == 12 + 16


def test_camvid_weights_label_the_street(weights: Path, street: list):
    network = camvid_network()
    load_espnet(network, weights / "espnet_p2_q8_camvid.safetensors")
    assert accuracy(network, street) > 0.85
    red_first = [(image.flip(1), label) for image, label in street]
    assert accuracy(network, red_first) < accuracy(network, street) - 0.1
    with torch.no_grad():
        scores = network(street[0][0])[0, :4, 200, 240]
    # What the public code computes for this pixel.
    torch.testing.assert_close(scores, torch.tensor([-1.495043, -1.845100, -0.709537, 1.344298]), atol=1e-3, rtol=0)


def test_cityscapes_weights_label_another_city(weights: Path, street: list):
    """CamVid's images by the classes that both data sets name, at the size that the network was trained for."""
    network = ESPNet(q=3).eval()
    load_espnet(network, weights / "espnet_p2_q3_cityscapes.safetensors")
    image, label = street[0]
    size = (512, 1024)
    large = np.array(Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST))
    enlarged = F.interpolate(image, size=size, mode="bilinear")
    assert accuracy(network, [(enlarged, large)], CITYSCAPES_TO_CAMVID) > 0.6


@pytest.mark.parametrize(
    ("file", "build"),
    [("espnet_p2_q3_cityscapes.safetensors", ESPNet), ("espnet_p2_q8_camvid.safetensors", camvid_network)],
)
def test_every_published_tensor_is_used(weights: Path, file: str, build: Callable[[], ESPNet]):
    network, published = build(), load_file(weights / file)
    load_espnet(network, weights / file)
    own = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    assert len(own) == len(published)
    assert sorted(tensor.sum().item() for tensor in own.values()) == sorted(
        tensor.sum().item() for tensor in published.values()
    )


def test_torch_files_of_parallel_training_and_own_states_load_too(weights: Path, tmp_path: Path):
    first, second, third = camvid_network(), camvid_network(), camvid_network()
    published = load_file(weights / "espnet_p2_q8_camvid.safetensors")
    torch.save({f"module.{name}": tensor for name, tensor in published.items()}, tmp_path / "parallel.pth")
    load_espnet(first, weights / "espnet_p2_q8_camvid.safetensors")
    load_espnet(second, tmp_path / "parallel.pth")
    save_file(first.state_dict(), tmp_path / "own.safetensors")
    load_espnet(third, tmp_path / "own.safetensors")
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
        assert torch.equal(tensor, third.state_dict()[name])


def test_wrong_files_are_refused_and_change_nothing(weights: Path, tmp_path: Path):
    network, file = ESPNet(q=3), weights / "espnet_p2_q3_cityscapes.safetensors"
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    published = load_file(file)
    with pytest.raises(WithinError, match="no such checkpoint"):
        load_espnet(network, tmp_path / "absent.pth")
    with pytest.raises(WithinError, match=r"of another shape \(.*scores_eighth.weight \(12, 256, 1, 1\) .* \(20, 256,"):
        load_espnet(network, weights / "espnet_p2_q8_camvid.safetensors")
    with pytest.raises(WithinError, match=r"missing \(eighth.3.reduce.weight"):
        load_espnet(ESPNet(q=5), file)
    with pytest.raises(WithinError, match=r"22 unexpected \(eighth.1"):
        load_espnet(ESPNet(q=1), file)
    with pytest.raises(WithinError, match=r"merge_half.convolution.weight \(20, 36, 3, 3\) .* \(20, 39, 3, 3\)"):
        load_espnet(ESPNet(q=3, skip="features_and_image"), file)
    published["br.weight"][3] = torch.nan
    save_file(published, tmp_path / "diverged.safetensors")
    torch.save(published, tmp_path / "diverged.pth")
    for damaged in ("diverged.safetensors", "diverged.pth"):
        with pytest.raises(WithinError, match=r"br.weight hold NaN"):
            load_espnet(network, tmp_path / damaged)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_normalisation_is_inside_and_leaves_the_image_alone():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 48) * 255
    network = ESPNet(7, q=1, mean=(10, 20, 30), deviation=(4, 5, 6)).eval()
    doubled = ESPNet(7, q=1, mean=(20, 40, 60), deviation=(8, 10, 12)).eval()
    doubled.load_state_dict(network.state_dict())
    copy = image.clone()
    first = network(image)
    assert torch.equal(image, copy)
    torch.testing.assert_close(network(image), first)
    torch.testing.assert_close(doubled(2 * image), first)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 72)])
def test_takes_multiples_of_eight_and_names_them_otherwise(height: int, width: int):
    network = ESPNet(5, q=0, p=0, void=False).eval()
    assert network(torch.zeros(2, 3, height, width)).shape == (2, 5, height, width)
    assert (network.void_class, network.size_multiple) == (None, 8)
    with pytest.raises(WithinError, match=f"multiples of 8, not {height} x {width + 4}.*{height} x {width + 8}"):
        network(torch.zeros(1, 3, height, width + 4))


@pytest.mark.parametrize("arguments", [{"classes": 3}, {"q": -1}, {"skip": "image"}])
def test_networks_that_do_not_exist_are_refused(arguments: dict):
    with pytest.raises(WithinError):
        ESPNet(**arguments)


def test_the_pyramid_sees_every_pixel_of_its_field():
    """Width 2 d + 1 for the largest dilation d; the fusion leaves no gaps in it ("de-gridding")."""
    torch.manual_seed(0)
    block, reach = ESPModule(20, 20).eval(), max(DILATIONS)
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1.0)
    image = torch.zeros(1, 20, 65, 65, requires_grad=True)
    block(image)[0, :, 32, 32].sum().backward()
    seen = (image.grad[0].sum(0) != 0).nonzero()
    assert (seen.min().item(), seen.max().item()) == (32 - reach, 32 + reach)
    widest = torch.zeros(1, 4, 65, 65, requires_grad=True)
    block.transform[-1](widest)[0, :, 32, 32].sum().backward()
    assert len(seen) > (widest.grad[0].sum(0) != 0).sum() == 9


def test_half_widths_with_the_head_kept():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 96) * 255
    network = ESPNet(11, q=1).eval()
    result = prune(network, (image,), widths=0.5, protect=["head"])
    assert result.model(image).shape == (1, 12, 64, 96)
    assert result.certificate.masked_slim_error < 1e-5
    assert Macs()(trace(result.model, (image,))) < 0.4 * Macs()(result.graph)
