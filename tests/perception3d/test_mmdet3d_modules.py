"""Our modules with MMDetection3D's arguments and weights, without the tool box: names, values, and equal maps."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from tests.perception3d.test_published_weights import random_detector

from within.core.errors import WithinError
from within.perception3d.models.bev_map import dense
from within.perception3d.models.height_compression import compress_height
from within.perception3d.partners.mmdet3d_modules import (
    WithinBevBackbone,
    WithinBevNeck,
    WithinPillarScatter,
    WithinVoxelBackbone,
)
from within.perception3d.sparse import SparseTensor
from within.perception3d.weights import to_mmdet3d

BASIC = {
    "encoder_channels": ((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
    "encoder_paddings": ((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
    "block_type": "basicblock",
}
SHAPE = (41, 64, 96)


def part_of(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def voxels(columns: int, clouds: int = 2) -> SparseTensor:
    generator = torch.Generator().manual_seed(3)
    keys = torch.randperm(clouds * 41 * 64 * 96, generator=generator)[:3000].sort().values
    places = torch.stack([keys // (41 * 64 * 96), keys // (64 * 96) % 41, keys // 96 % 64, keys % 96], dim=1).int()
    return SparseTensor(torch.randn(3000, columns, generator=generator), places.contiguous(), SHAPE, clouds)


@pytest.mark.parametrize(
    ("variant", "prefix", "arguments"),
    [("mmdet3d_second_kitti", "", {}), ("mmdet3d_center_point_nuscenes", "pts_", BASIC)],
)
def test_a_checkpoint_fits_and_the_maps_are_those_of_the_detector(variant, prefix, arguments):
    detector = random_detector(variant).eval()
    for value in detector.parameters():  # small enough that nothing overflows in 20 layers
        value.data.mul_(0.05)
    state = to_mmdet3d(detector)
    encoder = WithinVoxelBackbone(detector.columns, SHAPE, **arguments).eval()
    backbone = WithinBevBackbone(256, [128, 256], [5, 5], [1, 2]).eval()
    neck = WithinBevNeck([128, 256], [256, 256], [1, 2], use_conv_for_no_stride=bool(prefix)).eval()
    for module, name in ((encoder, "middle_encoder."), (backbone, "backbone."), (neck, "neck.")):
        theirs = part_of(state, prefix + name)
        module.load_state_dict(theirs)
        written = module.state_dict()
        assert sorted(written) == sorted(theirs)
        assert all(torch.equal(written[key], value) for key, value in theirs.items())
    x = voxels(detector.columns)
    with torch.no_grad():
        expected = detector.bev(compress_height(detector.backbone(x), "dense"))
        found = neck(backbone(encoder(x.features, x.indices, 2)))
    assert len(found) == 1
    torch.testing.assert_close(found[0], expected, rtol=0, atol=0)


def test_maps_may_stay_sparse_between_them():
    norm = {"type": "SPBN", "eps": 1e-3, "momentum": 0.01}
    torch.manual_seed(0)
    encoder = WithinVoxelBackbone(4, SHAPE, execution="sparse")
    backbone = WithinBevBackbone(256, [16, 32], [1, 1], [1, 2], norm_cfg=norm)
    neck = WithinBevNeck([16, 32], [8, 8], [1, 2], norm_cfg=norm)
    x = voxels(4)
    found = {}
    for execution in ("sparse", "masked"):
        encoder.execution = execution
        for module in (encoder, backbone, neck):
            module.train()
        map_ = encoder(x.features, x.indices, 2)
        found[execution] = neck(backbone(map_))[0]
        assert isinstance(found[execution], torch.Tensor)
    torch.testing.assert_close(found["sparse"], found["masked"], rtol=1e-3, atol=1e-4)
    found["sparse"].sum().backward()
    assert all(each.grad is not None for each in backbone.parameters())


def test_pillars_as_a_map():
    places = torch.tensor([[0, 0, 3, 5], [1, 0, 7, 1]])
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for execution in ("sparse", "masked", "dense"):
        found = dense(WithinPillarScatter(2, (8, 10), execution)(features, places, 2))
        assert found.shape == (2, 2, 8, 10)
        assert found[0, :, 3, 5].tolist() == [1, 2]
        assert found[1, :, 7, 1].tolist() == [3, 4]
        assert found.sum() == 10


def test_what_they_are_not():
    with pytest.raises(WithinError, match="order"):
        WithinVoxelBackbone(4, SHAPE, order=("norm", "act", "conv"))
    with pytest.raises(WithinError, match="channels"):
        WithinVoxelBackbone(4, SHAPE, encoder_channels=((16,), (32, 32), (64, 64, 64), (64, 64, 64)))
    with pytest.raises(WithinError, match="without bias"):
        WithinBevBackbone(conv_cfg={"type": "Conv2d", "bias": True})
    with pytest.raises(WithinError, match="deconv"):
        WithinBevNeck(upsample_cfg={"type": "nearest"})


@pytest.mark.skipif(importlib.util.find_spec("mmdet3d") is not None, reason="MMDetection3D is installed")
def test_without_the_tool_box_the_registry_says_how_to_get_it():
    with pytest.raises(WithinError, match="make setup-mmdet3d"):
        importlib.import_module("within.perception3d.partners.mmdet3d_registry")
