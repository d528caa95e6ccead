"""MMDetection3D's weights (open-mmlab/mmdetection3d 1.4): PointPillars, SECOND and CenterPoint, in both directions.

    voxel_encoder.pfn_layers.0.linear.weight            ->  backbone.linear.weight
    middle_encoder.encoder_layers.encoder_layer2.0.0.*  ->  backbone.stages.1.0.convolution.*   (SECOND)
    middle_encoder.encoder_layers.encoder_layer1.2.0.*  ->  backbone.stages.1.0.convolution.*   (CenterPoint)
    backbone.blocks.0.3.weight, neck.deblocks.0.0.*     ->  bev.blocks.0.1.convolution.weight, bev.upsamples.0.*
    bbox_head.task_heads.0.reg.1.bias                   ->  head.tasks.0.center.output.bias

CenterPoint's names begin with `pts_`. Its `rot` is (sine, cosine) there and (cosine, sine) here. Its necks have plain
convolutions where nothing is enlarged; those of the other two have transposed ones. Files without a version keep sparse
convolutions as spconv 1 does, and MMDetection3D turns them round when it reads them; so are ours written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from within.core.checkpoint import load_into
from within.perception3d.models.center_head import CenterHead
from within.perception3d.models.detector import Detector
from within.perception3d.weights.checkpoint_file import read_checkpoint, write_checkpoint
from within.perception3d.weights.layout import (
    Layout,
    Rename,
    inward,
    outward,
    renamed,
    sparse_weights,
    unit_upsamples,
)

BRANCHES = {"center": "reg", "center_z": "height"}  # the others have the same name
PART = {"convolution": "0", "norm": "1"}
RESIDUAL = {"convolution1": "conv1", "norm1": "bn1", "convolution2": "conv2", "norm2": "bn2"}
ANCHORS = {"scores": "conv_cls", "boxes": "conv_reg", "directions": "conv_dir_cls"}
HEAD = {"shared_convolution": "conv", "shared_norm": "bn"}
TASK = {"convolution": "0.conv", "norm": "0.bn", "output": "1"}


def _block(found: re.Match[str]) -> str:
    number = 3 * int(found[2]) + int(PART[found[3]])
    return f"backbone.blocks.{found[1]}.{number}."


def _residual_block(found: re.Match[str]) -> str:
    stage, layer = int(found[1]), int(found[2])
    return f"middle_encoder.encoder_layers.encoder_layer{stage + 1}.{layer - (stage > 0)}.{RESIDUAL[found[3]]}."


def _residual_down(found: re.Match[str]) -> str:
    return f"middle_encoder.encoder_layers.encoder_layer{found[1]}.2.{PART[found[2]]}."


def _plain_layer(found: re.Match[str]) -> str:
    return f"middle_encoder.encoder_layers.encoder_layer{int(found[1]) + 1}.{found[2]}.{PART[found[3]]}."


VOXEL_BACKBONE: tuple[Rename, ...] = (
    (r"^backbone\.stem\.(\w+)\.", lambda found: f"middle_encoder.conv_input.{PART[found[1]]}."),
    (r"^backbone\.out\.(\w+)\.", lambda found: f"middle_encoder.conv_out.{PART[found[1]]}."),
)
RESIDUAL_STAGES: tuple[Rename, ...] = (
    (r"^backbone\.stages\.(\d+)\.(\d+)\.((?:convolution|norm)\d)\.", _residual_block),
    (r"^backbone\.stages\.(\d+)\.0\.(convolution|norm)\.", _residual_down),
)
PLAIN_STAGES: tuple[Rename, ...] = ((r"^backbone\.stages\.(\d+)\.(\d+)\.(convolution|norm)\.", _plain_layer),)
BEV: tuple[Rename, ...] = (
    (r"^bev\.blocks\.(\d+)\.(\d+)\.(convolution|norm)\.", _block),
    (r"^bev\.upsamples\.(\d+)\.(\w+)\.", lambda found: f"neck.deblocks.{found[1]}.{PART[found[2]]}."),
)
HEADS: tuple[Rename, ...] = (
    (r"^head\.(scores|boxes|directions)\.", lambda found: f"bbox_head.{ANCHORS[found[1]]}."),
    (r"^head\.(shared_convolution|shared_norm)\.", lambda found: f"bbox_head.shared_conv.{HEAD[found[1]]}."),
    (
        r"^head\.tasks\.(\d+)\.(\w+)\.(convolution|norm|output)\.",
        lambda found: f"bbox_head.task_heads.{found[1]}.{BRANCHES.get(found[2], found[2])}.{TASK[found[3]]}.",
    ),
)
PILLARS: tuple[Rename, ...] = ((r"^backbone\.(linear|norm)\.", r"voxel_encoder.pfn_layers.0.\1."),)


def mmdet3d_voxel_name(*, residual: bool) -> Callable[[str], str]:
    """Returns the function from a name within our 3-D backbone to that within a SparseEncoder.

    Arguments:
        residual: whether the backbone has residual blocks.
    """
    rules = VOXEL_BACKBONE + (RESIDUAL_STAGES if residual else PLAIN_STAGES)
    return lambda name: renamed(f"backbone.{name}", rules).removeprefix("middle_encoder.")


def mmdet3d_layout(detector: Detector, *, plain_neck: bool | None = None) -> Layout:
    """Returns how MMDetection3D keeps the weights of a detector.

    Arguments:
        detector: of ours.
        plain_neck: whether its neck has a plain convolution where nothing is enlarged (`use_conv_for_no_stride`); by
            default as published: CenterPoint's has, the others' have not.
    """
    state = detector.state_dict()
    centers = isinstance(detector.head, CenterHead)
    residual = any(".convolution1." in name for name in state)
    rules = PILLARS + VOXEL_BACKBONE + (RESIDUAL_STAGES if residual else PLAIN_STAGES) + BEV + HEADS
    prefix = "pts_" if centers else ""
    plain = centers if plain_neck is None else plain_neck
    return Layout(
        names={name: prefix + renamed(name, rules) for name in state},
        sparse=sparse_weights(detector),
        kernel_first=True,
        flipped=frozenset(name for name in state if re.search(r"\.rot\.output\.(weight|bias)$", name)),
        transposed=unit_upsamples(detector) if plain else frozenset(),
        ignored=("data_preprocessor.",),
    )


def from_mmdet3d(
    tensors: Mapping[str, Tensor], detector: Detector, *, plain_neck: bool | None = None
) -> dict[str, Tensor]:
    """Returns weights of MMDetection3D as the state of a detector of ours; sparse ones as of spconv 1 or 2.

    Arguments:
        tensors: a state dict of theirs.
        detector: of ours, such as `build("mmdet3d_second_kitti")`.
        plain_neck: see `mmdet3d_layout`.
    """
    return inward(tensors, detector.state_dict(), mmdet3d_layout(detector, plain_neck=plain_neck))


def to_mmdet3d(detector: Detector, *, plain_neck: bool | None = None) -> dict[str, Tensor]:
    """Returns the weights of a detector as a state dict for MMDetection3D's `load_state_dict`."""
    return outward(detector.state_dict(), mmdet3d_layout(detector, plain_neck=plain_neck))


def load_mmdet3d(detector: Detector, path: str | Path, *, plain_neck: bool | None = None) -> None:
    """Copies a checkpoint of MMDetection3D into a detector, whole or not at all.

    Arguments:
        detector: of ours.
        path: a .pth file, of a training as well, or .safetensors; nothing in it is ever executed.
        plain_neck: see `mmdet3d_layout`.

    Raises:
        WithinError: when the file is missing or damaged, or holds another network.
    """
    load_into(detector, from_mmdet3d(read_checkpoint(path), detector, plain_neck=plain_neck), where=str(path))


def save_mmdet3d(detector: Detector, path: str | Path, *, plain_neck: bool | None = None) -> None:
    """Writes a detector's weights as a checkpoint that MMDetection3D loads.

    Raises:
        WithinError: when it cannot be written.
    """
    write_checkpoint(path, to_mmdet3d(detector, plain_neck=plain_neck), "state_dict")
