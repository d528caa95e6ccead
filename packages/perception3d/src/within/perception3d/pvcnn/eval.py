"""Evaluates a point network as a configuration says: mean IoU of rooms or parts, or boxes in KITTI's frustums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from within.core.cli.configuration import read_config, read_dataclass
from within.perception3d.data.frustum import detected_frustums, labelled_frustums, read_frames
from within.perception3d.data.s3dis import areas_of
from within.perception3d.data.s3dis_rooms import open_rooms
from within.perception3d.data.shapenet_part import ShapeNetParts
from within.perception3d.pvcnn.evaluation import PointEvaluation, evaluate_frustums, evaluate_parts, evaluate_rooms
from within.perception3d.pvcnn.frustum import FrustumNetwork
from within.perception3d.pvcnn.named_network import open_network
from within.perception3d.pvcnn.registry import variant
from within.perception3d.pvcnn.training_settings import PointEvaluationSettings


def main(config: str | Path | Mapping[str, Any]) -> PointEvaluation:
    """Evaluates as a configuration says.

    Arguments:
        config: a Python configuration, or the settings themselves (see `PointEvaluationSettings`).

    Raises:
        WithinError: for unknown or missing keys, and as `open_network` and the readers do.
    """
    read, where = read_config(config)
    given = {key: value for key, value in read.to_dict().items() if value is not None}
    settings = read_dataclass(PointEvaluationSettings, given, where)
    named = open_network(settings.network, weights=settings.weights, arguments=settings.arguments)
    known = variant(named.name)
    points = settings.points or known.points
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if known.task == "rooms":
        rooms = open_rooms(settings.data, areas_of("test", settings.holdout), points=points)
        return evaluate_rooms(
            named.model, rooms, votes=settings.votes or 1, limit=settings.limit, seed=settings.seed, device=device
        )
    if known.task == "parts":
        shapes = ShapeNetParts(settings.data, settings.split or "test", points=points, normals=settings.normals)
        return evaluate_parts(
            named.model, shapes, votes=settings.votes or 10, limit=settings.limit, seed=settings.seed, device=device
        )
    return _frustums(named.model, settings, points, device)


def _frustums(model: Any, settings: PointEvaluationSettings, points: int, device: str) -> PointEvaluation:
    assert isinstance(model, FrustumNetwork)
    root = Path(settings.data) / "training"
    frames = read_frames(Path(settings.data) / "ImageSets" / f"{settings.split or 'val'}.txt")[: settings.limit]
    options: dict[str, Any] = {"points": points, "save": settings.save, "seed": settings.seed, "device": device}
    if settings.detections is None:
        return evaluate_frustums(model, labelled_frustums(root, frames, classes=settings.classes), **options)
    found = detected_frustums(root, settings.detections, frames=frames, classes=settings.classes)
    return evaluate_frustums(model, found, labels=root / "label_2", frames=frames, **options)
