"""OpenPCDet's weights (open-mmlab/OpenPCDet 0.6): PointPillars, SECOND and CenterPoint, in both directions.

vfe.pfn_layers.0.linear.weight        ->  backbone.linear.weight
backbone_3d.conv2.0.0.weight          ->  backbone.stages.1.0.convolution.weight
backbone_2d.blocks.0.4.weight         ->  bev.blocks.0.1.convolution.weight    (number 0 there is a padding)
dense_head.heads_list.0.hm.1.bias     ->  head.tasks.0.heatmap.output.bias
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from within.core.checkpoint import load_into
from within.perception3d.models.detector import Detector
from within.perception3d.weights.checkpoint_file import read_checkpoint, write_checkpoint
from within.perception3d.weights.layout import Layout, Rename, inward, outward, renamed, sparse_weights

PART = {"convolution": "0", "norm": "1"}
RESIDUAL = {"convolution1": "conv1", "norm1": "bn1", "convolution2": "conv2", "norm2": "bn2"}
ANCHORS = {"scores": "conv_cls", "boxes": "conv_box", "directions": "conv_dir_cls"}
HEAD = {"shared_convolution": "0", "shared_norm": "1"}
TASK = {"convolution": "0.0", "norm": "0.1", "output": "1"}


def _layer(found: re.Match[str]) -> str:
    part = RESIDUAL.get(found[3]) or PART[found[3]]
    return f"backbone_3d.conv{int(found[1]) + 1}.{found[2]}.{part}."


def _block(found: re.Match[str]) -> str:
    return f"backbone_2d.blocks.{found[1]}.{3 * int(found[2]) + 1 + int(PART[found[3]])}."


RULES: tuple[Rename, ...] = (
    (r"^backbone\.(linear|norm)\.", r"vfe.pfn_layers.0.\1."),
    (r"^backbone\.stem\.(\w+)\.", lambda found: f"backbone_3d.conv_input.{PART[found[1]]}."),
    (r"^backbone\.out\.(\w+)\.", lambda found: f"backbone_3d.conv_out.{PART[found[1]]}."),
    (r"^backbone\.stages\.(\d+)\.(\d+)\.(\w+)\.", _layer),
    (r"^bev\.blocks\.(\d+)\.(\d+)\.(\w+)\.", _block),
    (r"^bev\.upsamples\.(\d+)\.(\w+)\.", lambda found: f"backbone_2d.deblocks.{found[1]}.{PART[found[2]]}."),
    (r"^head\.(scores|boxes|directions)\.", lambda found: f"dense_head.{ANCHORS[found[1]]}."),
    (r"^head\.(shared_convolution|shared_norm)\.", lambda found: f"dense_head.shared_conv.{HEAD[found[1]]}."),
    (
        r"^head\.tasks\.(\d+)\.(\w+)\.(convolution|norm|output)\.",
        lambda found: f"dense_head.heads_list.{found[1]}.{found[2].replace('heatmap', 'hm')}.{TASK[found[3]]}.",
    ),
)


def openpcdet_layout(detector: Detector) -> Layout:
    """Returns how OpenPCDet keeps the weights of a detector."""
    return Layout(
        names={name: renamed(name, RULES) for name in detector.state_dict()},
        sparse=sparse_weights(detector),
        ignored=("global_step",),
    )


def from_openpcdet(tensors: Mapping[str, Tensor], detector: Detector) -> dict[str, Tensor]:
    """Returns weights of OpenPCDet as the state of a detector of ours; sparse ones as of spconv 1 or 2."""
    return inward(tensors, detector.state_dict(), openpcdet_layout(detector))


def to_openpcdet(detector: Detector) -> dict[str, Tensor]:
    """Returns the weights of a detector as a state dict of OpenPCDet, sparse ones as of spconv 2."""
    return outward(detector.state_dict(), openpcdet_layout(detector))


def load_openpcdet(detector: Detector, path: str | Path) -> None:
    """Copies a checkpoint of OpenPCDet into a detector, whole or not at all.

    Arguments:
        detector: of ours, such as `build("center_point_kitti")`.
        path: a .pth file; nothing in it is ever executed.

    Raises:
        WithinError: when the file is missing or damaged, or holds another network.
    """
    load_into(detector, from_openpcdet(read_checkpoint(path), detector), where=str(path))


def save_openpcdet(detector: Detector, path: str | Path) -> None:
    """Writes a detector's weights as a checkpoint that OpenPCDet loads.

    Raises:
        WithinError: when it cannot be written.
    """
    write_checkpoint(path, to_openpcdet(detector), "model_state")
