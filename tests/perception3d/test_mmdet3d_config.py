"""MMDetection3D's configurations read as arguments of ours, written down here as theirs are; without the tool box."""

from __future__ import annotations

import copy

import pytest
from mmengine.config import Config

from within.core.errors import WithinError
from within.perception3d.center_decoding import Decoding
from within.perception3d.models.variants import VARIANTS, build
from within.perception3d.partners.mmdet3d_config import read_mmdet3d_config

SECOND = {
    "type": "VoxelNet",
    "data_preprocessor": {
        "type": "Det3DDataPreprocessor",
        "voxel": True,
        "voxel_layer": {
            "max_num_points": 5,
            "point_cloud_range": [0, -40, -3, 70.4, 40, 1],
            "voxel_size": [0.05, 0.05, 0.1],
            "max_voxels": (16000, 40000),
        },
    },
    "voxel_encoder": {"type": "HardSimpleVFE"},
    "middle_encoder": {"type": "SparseEncoder", "in_channels": 4, "sparse_shape": [41, 1600, 1408]},
    "backbone": {
        "type": "SECOND", "in_channels": 256, "layer_nums": [5, 5], "layer_strides": [1, 2], "out_channels": [128, 256]
    },
    "neck": {"type": "SECONDFPN", "upsample_strides": [1, 2], "out_channels": [256, 256]},
    "bbox_head": {
        "type": "Anchor3DHead",
        "num_classes": 3,
        "anchor_generator": {
            "type": "Anchor3DRangeGenerator",
            "ranges": [[0, -40.0, z, 70.4, 40.0, z] for z in (-0.6, -0.6, -1.78)],
            "sizes": [[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]],
            "rotations": [0, 1.57],
        },
    },
    "train_cfg": {
        "assigner": [
            {"pos_iou_thr": 0.35, "neg_iou_thr": 0.2},
            {"pos_iou_thr": 0.35, "neg_iou_thr": 0.2},
            {"pos_iou_thr": 0.6, "neg_iou_thr": 0.45},
        ]
    },
    "test_cfg": {"use_rotate_nms": True, "nms_thr": 0.01, "score_thr": 0.1, "nms_pre": 100, "max_num": 50},
}  # fmt: skip
TASKS = VARIANTS["mmdet3d_center_point_nuscenes"].arguments["tasks"]
CENTER_POINT = {
    "type": "CenterPoint",
    "data_preprocessor": {
        "voxel_layer": {
            "max_num_points": 10,
            "point_cloud_range": [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0],
            "voxel_size": [0.1, 0.1, 0.2],
            "max_voxels": (90000, 120000),
        }
    },
    "pts_voxel_encoder": {"type": "HardSimpleVFE", "num_features": 5},
    "pts_middle_encoder": {
        "type": "SparseEncoder",
        "in_channels": 5,
        "sparse_shape": [41, 1024, 1024],
        "encoder_channels": ((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        "encoder_paddings": ((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
        "block_type": "basicblock",
    },
    "pts_backbone": {"type": "SECOND", "out_channels": [128, 256], "layer_nums": [5, 5], "layer_strides": [1, 2]},
    "pts_neck": {
        "type": "SECONDFPN", "out_channels": [256, 256], "upsample_strides": [1, 2], "use_conv_for_no_stride": True
    },
    "pts_bbox_head": {
        "type": "CenterHead",
        "tasks": [{"num_class": len(names), "class_names": list(names)} for names in TASKS],
        "common_heads": {"reg": (2, 2), "height": (1, 2), "dim": (3, 2), "rot": (2, 2), "vel": (2, 2)},
        "share_conv_channel": 64,
        "bbox_coder": {"max_num": 500, "post_center_range": [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]},
        "separate_head": {"type": "SeparateHead", "init_bias": -2.19, "final_kernel": 3},
    },
    "test_cfg": {
        "pts": {
            "post_center_limit_range": [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0], "score_threshold": 0.1,
            "nms_type": "rotate", "pre_max_size": 1000, "post_max_size": 83, "nms_thr": 0.2,
        }
    },
}  # fmt: skip
NAMES = ("Pedestrian", "Cyclist", "Car")


def changed(model: dict, **values) -> dict:
    """Returns a copy with some entries replaced, dotted where nested."""
    found = copy.deepcopy(model)
    for path, value in values.items():
        *outer, last = path.split("__")
        inner = found
        for key in outer:
            inner = inner[key]
        inner[last] = value
    return found


def test_second_is_the_variant():
    found = read_mmdet3d_config({"model": SECOND, "class_names": NAMES})
    assert found.variant == "mmdet3d_second_kitti"
    assert not found.plain_neck
    assert found.decoding == Decoding(most=100, least_score=0.1, overlap=0.01, before=100, after=50, by_class=True)
    ours, theirs = build("mmdet3d_second_kitti"), found.build()
    assert str(ours) == str(theirs)
    assert ours.grid.cells == theirs.grid.cells
    assert ours.head.anchor_classes == theirs.head.anchor_classes
    assert ours.head.angles == theirs.head.angles
    assert ours.head.direction_offset == theirs.head.direction_offset


def test_center_point_is_the_variant():
    found = read_mmdet3d_config(CENTER_POINT)
    assert found.plain_neck
    limits = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)
    assert found.decoding == Decoding(500, 0.1, limits, 0.2, 1000, 83)
    ours, theirs = build("mmdet3d_center_point_nuscenes"), found.build()
    assert str(ours) == str(theirs)
    assert ours.grid.cells == theirs.grid.cells
    assert ours.head.task_classes == theirs.head.task_classes


def test_a_file_with_spbn(tmp_path):
    """Our own parts and SP-BN may stand in the configuration; they are not imported to read it."""
    norm = {"type": "SPBN", "eps": 1e-3, "momentum": 0.01}
    model = changed(
        CENTER_POINT, pts_backbone__norm_cfg=norm, pts_neck__norm_cfg=norm, pts_backbone__type="WithinBevBackbone"
    )
    path = tmp_path / "config.py"
    imports = {"imports": ["within.perception3d.partners.mmdet3d_registry"]}
    Config({"model": model, "custom_imports": imports}).dump(path)
    assert read_mmdet3d_config(path).build().bev.blocks[0][0].norm.__class__.__name__ == "SpatialSparseNorm"


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (SECOND, {"type": "MVXFasterRCNN"}, "MVXFasterRCNN"),
        (SECOND, {"middle_encoder__sparse_shape": [41, 1600, 1400]}, "sparse_shape"),
        (SECOND, {"middle_encoder__block_type": "basicblock"}, "channels are|no residual"),
        (SECOND, {"neck__upsample_strides": [1]}, "different lengths"),
        (SECOND, {"bbox_head__num_classes": 2}, "classes"),
        (SECOND, {"bbox_head__use_direction_classifier": False}, "use_direction_classifier"),
        (SECOND, {"neck__norm_cfg": {"type": "SPBN"}}, "different norms"),
        (SECOND, {"data_preprocessor__voxel_layer": {}}, "point_cloud_range"),
        (SECOND, {"neck": None}, "no neck"),
        (CENTER_POINT, {"pts_bbox_head__separate_head__type": "DCNSeparateHead"}, "DCNSeparateHead"),
        (CENTER_POINT, {"pts_bbox_head__common_heads": {"reg": (2, 2)}}, "branches"),
        (CENTER_POINT, {"pts_bbox_head__share_conv_channel": 32}, "branches 64"),
    ],
)
def test_what_cannot_be_ours_is_named(model, change, message):
    with pytest.raises(WithinError, match=message):
        read_mmdet3d_config(changed(model, **change), classes=NAMES)


def test_suppression_by_circles_has_no_decoding():
    assert read_mmdet3d_config(changed(CENTER_POINT, test_cfg__pts__nms_type="circle")).decoding is None


def test_a_file_that_does_not_run(tmp_path):
    (tmp_path / "bad.py").write_text("model = nothing_here\n")
    with pytest.raises(WithinError, match="could not be read"):
        read_mmdet3d_config(tmp_path / "bad.py")
