"""Dense, masked and sparse maps: the last two agree for every layer, and the first where everything is occupied."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from within.perception3d.models.bev_backbone import BevBackbone, BevBlock
from within.perception3d.models.bev_layers import BevConvolution, BevNorm, BevUpsample, SpatialSparseNorm
from within.perception3d.models.bev_map import MaskedMap, dense, masked, occupied, sparse
from within.perception3d.models.center_head import CenterHead
from within.perception3d.models.height_compression import compress_height
from within.perception3d.sparse import from_dense

BLOCKS = (BevBlock(2, 8, 1, 2, 6), BevBlock(1, 12, 2, 4, 6))


def some_map(share: float = 0.2, channels: int = 5, seed: int = 0) -> MaskedMap:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(2, 12, 16, generator=generator) < share
    found = masked(torch.randn(2, channels, 12, 16, generator=generator), mask)
    assert isinstance(found, MaskedMap)
    return found


LAYERS = {
    "stay": lambda: BevConvolution(5, 7, bias=True, reach="stay"),
    "grow": lambda: BevConvolution(5, 7, bias=True),
    "stride": lambda: BevConvolution(5, 7, stride=2),
    "point": lambda: BevConvolution(5, 7, 1, bias=True),
    "groups": lambda: BevConvolution(4, 8, groups=4, reach="stay"),
    "shrink": lambda: BevConvolution(5, 7, 2, stride=2, padding=0),
    "upsample": lambda: BevUpsample(5, 7, 2, bias=True),
    "same size": lambda: BevUpsample(5, 7, 1, bias=True),
    "norm": lambda: BevNorm(5),
    "spatial sparse norm": lambda: SpatialSparseNorm(5),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_masked_equals_sparse(name: str, training: bool) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double().train(training)
    x = some_map(channels=4 if name == "groups" else 5)
    x = MaskedMap(x.features.double().requires_grad_(), x.mask)
    one, two = layer(x), layer(sparse(x))
    assert torch.equal(occupied(one), occupied(two))
    torch.testing.assert_close(dense(one), dense(two), rtol=0, atol=1e-12)
    assert (dense(one).movedim(1, -1)[~occupied(one)] == 0).all()
    weights = torch.randn_like(dense(one))
    gradients = [
        torch.autograd.grad((dense(each) * weights).sum(), x.features, retain_graph=True)[0] for each in (one, two)
    ]
    torch.testing.assert_close(gradients[0] * x.mask[:, None], gradients[1] * x.mask[:, None], rtol=0, atol=1e-10)


def test_sparse_rows_need_no_order() -> None:
    layer = BevConvolution(5, 7, reach="stay").double()
    x = sparse(some_map())
    x = x.with_features(x.features.double())
    mixed = x.keep(torch.randperm(len(x)))
    torch.testing.assert_close(dense(layer(mixed)), dense(layer(x)), rtol=0, atol=1e-12)


def test_norm_over_places_by_its_definition() -> None:
    """Forward and backward against the formula: the gradient of a norm must see all its places."""
    torch.manual_seed(0)
    norm = BevNorm(5).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    x = sparse(some_map(0.5))
    rows = x.features.double().requires_grad_()
    again = rows.detach().clone().requires_grad_()
    found = norm(x.with_features(rows)).features
    expected = (again - again.mean(0)) / torch.sqrt(again.var(0, correction=0) + norm.eps) * norm.weight + norm.bias
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(rows)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(rows.grad, again.grad)
    mask = some_map(0.5)
    features = mask.features.double().requires_grad_()
    dense_found = norm(MaskedMap(features, mask.mask))
    (dense_found.features.movedim(1, -1)[mask.mask] * weights).sum().backward()
    torch.testing.assert_close(features.grad.movedim(1, -1)[mask.mask], again.grad)


def test_everything_occupied_is_dense() -> None:
    torch.manual_seed(0)
    network = BevBackbone(5, BLOCKS).double()
    x = torch.randn(2, 5, 12, 16).double()
    expected = network(x)
    for _ in range(2):  # training statistics agree as well
        full = network(MaskedMap(x, torch.ones(2, 12, 16, dtype=torch.bool)))
        torch.testing.assert_close(dense(full), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(dense(network(from_dense(x))), expected, rtol=0, atol=1e-10)
        network.eval()
        expected = network(x)


@pytest.mark.parametrize("reach", ["grow", "stay"])
def test_backbone_and_head(reach: str) -> None:
    torch.manual_seed(0)
    network = BevBackbone(5, BLOCKS, norm="spatial_sparse", reach=reach).double()  # type: ignore[arg-type]
    head = CenterHead(12, (("a", "b"), ("c",)), shared=6, velocity=True).double()
    x = some_map()
    x = MaskedMap(x.features.double(), x.mask)
    for training in (True, False):
        nn.ModuleList([network, head]).train(training)
        one, two = head(network(x)), head(network(sparse(x)))
        for task, other in zip(one, two, strict=True):
            assert list(task) == ["heatmap", "center", "center_z", "dim", "rot", "vel"]
            for name in task:
                torch.testing.assert_close(dense(task[name]), dense(other[name]), rtol=0, atol=1e-10)


def test_spatial_sparse_norm_keeps_dense_maps_sparse() -> None:
    # In evaluation a dense network with SP-BN equals the growing sparse one: nothing but zeros elsewhere.
    torch.manual_seed(0)
    network = BevBackbone(5, (BevBlock(0, 8, 1, 2, 6),), norm="spatial_sparse").double().eval()
    x = some_map(0.02)
    found = network(x.features.double())
    grown = network(sparse(MaskedMap(x.features.double(), x.mask)))
    torch.testing.assert_close(found, dense(grown), rtol=0, atol=1e-12)
    assert (found != 0).any(1).double().mean() < 0.5


def test_spatial_sparse_norm_by_its_definition() -> None:
    norm = SpatialSparseNorm(5, eps=1e-3, momentum=0.1).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)  # type: ignore[union-attr]
    x = some_map()
    features = x.features.double()
    values = features.movedim(1, 0)[:, x.mask]
    variance = ((values - values.mean(1, keepdim=True)) ** 2).mean(1)
    expected = features * (norm.weight / torch.sqrt(variance + 1e-3))[:, None, None]
    torch.testing.assert_close(norm(features), expected)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variance)
    assert not norm.running_var.requires_grad


def test_signed_sums_do_not_hide_a_pixel() -> None:
    norm = SpatialSparseNorm(2)
    x = torch.zeros(1, 2, 4, 4)
    x[0, :, 1, 1] = torch.tensor([3.0, -3.0])  # sums to nothing
    x[0, :, 2, 2] = torch.tensor([1.0, 1.0])
    norm(x)
    torch.testing.assert_close(norm.running_var, 0.99 + 0.01 * torch.tensor([1.0, 4.0]))


def test_height_becomes_channels() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 2, 5, 6) * (torch.rand(2, 1, 2, 5, 6) < 0.2)
    voxels = from_dense(x)
    expected = x.flatten(1, 2)
    for execution in ("dense", "masked", "sparse"):
        found = compress_height(voxels, execution)  # type: ignore[arg-type]
        torch.testing.assert_close(dense(found), expected)
        assert torch.equal(occupied(found), (expected != 0).any(1))


@pytest.mark.parametrize("layer", ["norm", "spatial sparse norm"])
@pytest.mark.parametrize("training", [True, False])
def test_nothing_occupied(layer: str, training: bool) -> None:
    found = LAYERS[layer]().train(training)(some_map(0.0))
    assert torch.equal(dense(found), torch.zeros(2, 5, 12, 16))
