"""Weights in the layouts of MMDetection3D and OpenPCDet: out and in again, and files that are damaged or hostile."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from within.core.errors import WithinError
from within.perception3d.models.variants import build, names
from within.perception3d.named_detector import load_detector, open_detector
from within.perception3d.weights import (
    from_mmdet3d,
    from_openpcdet,
    load_mmdet3d,
    load_openpcdet,
    read_checkpoint,
    save_mmdet3d,
    save_openpcdet,
    to_mmdet3d,
    to_openpcdet,
)

MMDET3D = [name for name in names() if name.startswith("mmdet3d")]
OPENPCDET = [
    "center_point_kitti", "center_point_kitti_plain", "center_point_kitti_pillars", "second_kitti",
    "point_pillars_kitti", "center_point_nuscenes",
]  # fmt: skip


def random_detector(name: str, seed: int = 0):
    """Returns a detector whose weights and statistics are all random, so that no exchange goes unseen."""
    generator = torch.Generator().manual_seed(seed)
    detector = build(name)
    for value in detector.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
    return detector


def assert_equal(first, second) -> None:
    one, two = first.state_dict(), second.state_dict()
    assert list(one) == list(two)
    for name in one:
        assert torch.equal(one[name], two[name]), name


@pytest.mark.parametrize("name", MMDET3D)
def test_mmdet3d_out_and_in(name, tmp_path):
    first, second = random_detector(name), random_detector(name, 1)
    save_mmdet3d(first, tmp_path / "theirs.pth")
    load_mmdet3d(second, tmp_path / "theirs.pth")
    assert_equal(first, second)


@pytest.mark.parametrize("name", OPENPCDET)
def test_openpcdet_out_and_in(name, tmp_path):
    first, second = random_detector(name), random_detector(name, 1)
    save_openpcdet(first, tmp_path / "theirs.pth")
    load_openpcdet(second, tmp_path / "theirs.pth")
    assert_equal(first, second)


def test_both_layouts_of_sparse_kernels_are_read():
    """Would catch a kernel of spconv 1 taken for one of spconv 2."""
    detector = random_detector("mmdet3d_second_kitti")
    state = to_mmdet3d(detector)
    name = "middle_encoder.conv_input.0.weight"
    assert state[name].shape == (3, 3, 3, 4, 16)
    as_two = state | {key: value.movedim(-1, 0) for key, value in state.items() if value.dim() == 5}
    assert as_two[name].shape == (16, 3, 3, 3, 4)
    for each in (state, as_two):
        found = from_mmdet3d(each, detector)
        assert all(torch.equal(found[key], value) for key, value in detector.state_dict().items())
    moved = to_openpcdet(build("second_kitti"))
    assert moved["backbone_3d.conv_input.0.weight"].shape == (16, 3, 3, 3, 4)
    turned = {key: value.movedim(0, -1) if value.dim() == 5 else value for key, value in moved.items()}
    assert from_openpcdet(turned, detector)["backbone.stem.convolution.weight"].shape == (16, 3, 3, 3, 4)


def test_names_as_the_tool_boxes_have_them():
    """Names written down from their source; would catch a shifted number."""
    second, voxel = to_mmdet3d(build("mmdet3d_second_kitti")), to_mmdet3d(build("mmdet3d_center_point_nuscenes"))
    assert second["middle_encoder.encoder_layers.encoder_layer2.0.0.weight"].shape == (3, 3, 3, 16, 32)
    assert second["backbone.blocks.1.15.weight"].shape == (256, 256, 3, 3)
    assert second["neck.deblocks.0.0.weight"].shape == (128, 256, 1, 1)
    assert voxel["pts_middle_encoder.encoder_layers.encoder_layer1.2.0.weight"].shape == (3, 3, 3, 16, 32)
    assert voxel["pts_middle_encoder.encoder_layers.encoder_layer4.1.conv2.weight"].shape == (3, 3, 3, 128, 128)
    assert voxel["pts_neck.deblocks.0.0.weight"].shape == (256, 128, 1, 1)
    assert voxel["pts_bbox_head.task_heads.5.vel.1.bias"].shape == (2,)
    center = to_openpcdet(build("center_point_kitti"))
    assert center["backbone_3d.conv2.1.conv1.bias"].shape == (32,)
    assert center["dense_head.heads_list.0.hm.0.1.running_var"].shape == (64,)
    assert center["backbone_2d.blocks.0.1.weight"].shape == (128, 256, 3, 3)


def test_a_tool_boxs_checkpoint_opens_like_ours(tmp_path):
    """`--weights` takes either; also into a detector that drops places."""
    first = random_detector("center_point_kitti")
    save_openpcdet(first, tmp_path / "theirs.pth")
    arguments = {"drop_rates": {"voxels": {1: 0.5}}}
    for given in ({}, arguments):
        found = open_detector("center_point_kitti", weights=tmp_path / "theirs.pth", arguments=given).model
        assert_equal(first, getattr(found, "detector", found))
    pillars = random_detector("mmdet3d_point_pillars_kitti")
    save_mmdet3d(pillars, tmp_path / "pillars.pth")
    assert_equal(pillars, open_detector("mmdet3d_point_pillars_kitti", weights=tmp_path / "pillars.pth").model)
    with pytest.raises(WithinError, match="another architecture"):
        load_detector(build("center_point_kitti_plain"), tmp_path / "theirs.pth")


def test_a_training_checkpoint_is_read(tmp_path):
    """mmengine keeps histories and NumPy values beside the weights; they are left out, not run."""
    detector = random_detector("mmdet3d_second_kitti")
    history = HistoryBuffer([0.1, 0.2], [1, 1])
    hub = {"log_scalars": {"train/loss": history}, "rate": np.float64(0.1), "runtime_info": {"epoch": 3}}
    content = {"meta": {"classes": ("a",)}, "state_dict": to_mmdet3d(detector), "message_hub": hub}
    torch.save(content, tmp_path / "epoch_3.pth")
    other = random_detector("mmdet3d_second_kitti", 1)
    load_mmdet3d(other, tmp_path / "epoch_3.pth")
    assert_equal(detector, other)


class Hostile:
    """Asks for a file to be made when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_checkpoint_runs(tmp_path):
    weights = {"state_dict": {"weight": torch.ones(1)}, "hook": Hostile(str(tmp_path / "made"))}
    torch.save(weights, tmp_path / "hostile.pth")
    with pytest.raises(WithinError, match="never run"):
        read_checkpoint(tmp_path / "hostile.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(weights))
    with pytest.raises(WithinError):
        read_checkpoint(tmp_path / "bare.pth")
    assert not (tmp_path / "made").exists()


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(WithinError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "missing.pth")
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "plain.pth")
    with pytest.raises(WithinError, match="no weights"):
        read_checkpoint(tmp_path / "plain.pth")
    torch.save({"state_dict": {"weight": torch.tensor([float("nan")])}}, tmp_path / "nan.pth")
    with pytest.raises(WithinError, match="NaN"):
        read_checkpoint(tmp_path / "nan.pth")
    whole = tmp_path / "whole.pth"
    torch.save({"state_dict": {"weight": torch.ones(100)}}, whole)
    (tmp_path / "half.pth").write_bytes(whole.read_bytes()[:300])
    with pytest.raises(WithinError, match="cannot be read"):
        read_checkpoint(tmp_path / "half.pth")
