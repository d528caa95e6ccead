"""MMDetection3D's configurations (1.x) of PointPillars, SECOND and CenterPoint, read as arguments of our networks.

Only the model is read: its grid, voxel encoder, 3-D and 2-D backbone, neck and head, and how its boxes are read. What
our networks cannot be is an error that names the entry. MMDetection3D itself is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from within.core.errors import WithinError
from within.perception3d.center_decoding import Decoding
from within.perception3d.models.detector import Detector
from within.perception3d.models.variants import build
from within.perception3d.partners.mmdet3d_heads import anchor_arguments, center_arguments
from within.perception3d.partners.mmdet3d_parts import blocks_of, expect, grid_of, norm_of, part, pillars_of, stages_of
from within.perception3d.weights import load_mmdet3d

VARIANTS = {
    ("pillars", "Anchor3DHead"): "mmdet3d_point_pillars_kitti",
    ("voxels", "Anchor3DHead"): "mmdet3d_second_kitti",
    ("voxels", "CenterHead"): "mmdet3d_center_point_nuscenes",
    ("pillars", "CenterHead"): "mmdet3d_center_point_nuscenes_pillars",
}


@dataclass(frozen=True)
class Mmdet3dNetwork:
    """A network of MMDetection3D in our words.

    Attributes:
        variant: of ours that has the same form, see `models.variants`.
        arguments: that replace its own; plain values, so that they fit into configurations and plans.
        plain_neck: whether its neck has plain convolutions where nothing is enlarged, see `weights.mmdet3d_layout`.
        decoding: how its boxes are read; None where it has a suppression that is not here (by circles).
    """

    variant: str
    arguments: Mapping[str, Any]
    plain_neck: bool
    decoding: Decoding | None

    def build(self, weights: str | Path | None = None) -> Detector:
        """Returns our network.

        Arguments:
            weights: a checkpoint of MMDetection3D; None leaves it freshly initialised.

        Raises:
            WithinError: when the file is missing or damaged, or holds another network.
        """
        detector = build(self.variant, **self.arguments)
        if weights is not None:
            load_mmdet3d(detector, weights, plain_neck=self.plain_neck)
        return detector


def read_mmdet3d_config(
    config: str | Path | Mapping[str, Any], *, classes: Sequence[str] | None = None
) -> Mmdet3dNetwork:
    """Returns what a configuration describes.

    Arguments:
        config: a Python configuration, or its content, or its `model` alone.
        classes: names of the classes of a head with anchors; by default those that the configuration lists.

    Raises:
        WithinError: when it cannot be read, or describes a network that is not one of ours.
    """
    where, content = _content(config)
    model = content.get("model", content)
    kind = expect(model, "type", ("VoxelNet", "CenterPoint"), where)
    prefix, place = ("pts_" if kind == "CenterPoint" else ""), f"{where}, model"
    arguments: dict[str, Any] = {"grid": grid_of(model, place)}
    encoder, middle = part(model, f"{prefix}voxel_encoder", place), part(model, f"{prefix}middle_encoder", place)
    backbone, neck = part(model, f"{prefix}backbone", place), part(model, f"{prefix}neck", place)
    head = part(model, f"{prefix}bbox_head", place)
    form = "pillars" if encoder.value.get("type") == "PillarFeatureNet" else "voxels"
    arguments |= pillars_of(encoder, middle) if form == "pillars" else stages_of(encoder, middle, arguments["grid"])
    arguments["blocks"], plain_neck = blocks_of(backbone, neck)
    arguments["norm"] = norm_of(backbone)
    if norm_of(neck) != arguments["norm"]:
        raise WithinError("Backbone and neck have different norms; ours have one", where=f"{neck.where}, norm_cfg")
    kind_of_head = expect(head.value, "type", ("Anchor3DHead", "CenterHead"), head.where)
    if kind_of_head == "CenterHead":
        test = model.get("test_cfg") or {}
        found, decoding = center_arguments(head, test.get("pts", test))
    else:
        names = classes or content.get("class_names") or (content.get("metainfo") or {}).get("classes")
        found, decoding = anchor_arguments(head, model, arguments["grid"], names)
        if arguments.pop("residual", False):
            raise WithinError("SECOND has no residual blocks here", where=f"{middle.where}, block_type")
        arguments.pop("residual_bias", None)
    return Mmdet3dNetwork(VARIANTS[form, kind_of_head], arguments | found, plain_neck, decoding)


def _content(config: str | Path | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(config, Mapping):
        return "the configuration", config
    if isinstance(config, Config):
        return str(config.filename or "the configuration"), config.to_dict()
    try:
        return str(config), Config.fromfile(str(config), import_custom_modules=False).to_dict()
    except Exception as error:  # a configuration is a program and can fail in any way
        raise WithinError(
            f"The configuration could not be read ({type(error).__name__}: {error})", where=str(config)
        ) from error
