"""Average precision of a detector on a data set; this is `within perception3d eval`.

KITTI: image, bird's-eye and 3-D average precision at 11 and 40 recalls; mAP is the mean over classes of 3-D, moderate,
40 recalls. nuScenes: mAP and NDS. ONCE: mAP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from within.core.cli.configuration import read_config, read_dataclass
from within.core.device.inference import evaluating, placed
from within.core.errors import WithinError
from within.core.files import write_json
from within.core.progress import track
from within.perception3d.anchor_loss import ANCHOR_DECODING, decode_anchors
from within.perception3d.center_decoding import Decoding, decode_centers
from within.perception3d.data.kitti import KittiFrames, kitti_detections
from within.perception3d.data.kitti_labels import write_detections
from within.perception3d.data.lidar_objects import LidarObjects, lidar_objects
from within.perception3d.data.nuscenes import NuscenesFrames
from within.perception3d.data.once import OnceFrames
from within.perception3d.data.scene import Scene, Scenes
from within.perception3d.detection_evaluation import Evaluation, KittiEvaluation, NuscenesEvaluation, OnceEvaluation
from within.perception3d.detections import Detections
from within.perception3d.metrics.kitti_ap import average_precision
from within.perception3d.metrics.nuscenes_detection import MOST_BOXES, nuscenes_score
from within.perception3d.metrics.once_ap import once_average_precision
from within.perception3d.models.anchor_head import AnchorHead
from within.perception3d.named_detector import Network, detector_of, map_grid, open_detector, task_labels
from within.perception3d.scene_sources import find_scenes
from within.perception3d.training_scenes import network_inputs


@dataclass(frozen=True)
class DetectionEvaluationSettings:
    """What is evaluated.

    Attributes:
        data: the folder of a data set.
        network: a variant or a run directory; not needed where `weights` is one.
        weights, arguments: of the network, see `open_detector`.
        split: part of the data set; None takes every frame.
        limit: first frames only.
        decoding: how boxes are read.
        device: None takes CUDA where there is one.
        save: a folder for detections, a file a frame in KITTI's form.
    """

    data: str | Path
    network: str | Path | None = None
    weights: str | Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = "val"
    limit: int | None = None
    decoding: Decoding | None = None
    device: str | None = None
    save: str | Path | None = None


def detect(
    network: Network,
    scenes: Scenes,
    *,
    decoding: Decoding | None = None,
    device: str | torch.device | None = None,
    description: str = "Detecting",
) -> Iterator[tuple[int, Scene, Detections]]:
    """Yields the number, scene and detections of each frame.

    Arguments:
        network: a detector.
        scenes: to look at.
        decoding: how boxes are read; that of the head's kind by default.
        device: where it runs; None leaves the network where it is.
        description: of the progress bar.

    Raises:
        WithinError: when a frame is damaged or has no point in the region, with its name.
    """
    with evaluating(network), placed(network, device) as place, torch.no_grad():
        for index in track(range(len(scenes)), description):
            scene = scenes.scene(index)
            yield index, scene, detections_of(network, scene, decoding, place)


def detections_of(
    network: Network, scene: Scene, decoding: Decoding | None = None, device: torch.device | None = None
) -> Detections:
    """Returns what a network that is in evaluation mode finds in one scene."""
    detector = detector_of(network)
    try:
        inputs = network_inputs([scene.points], detector.grid, detector.columns)
    except WithinError as error:
        raise WithinError(error.what, where=f"frame {scene.name}", todo=error.todo) from error
    return decoded(network, network(*(each.to(device) for each in inputs)), decoding)[0]


def decoded(network: Network, outputs: Sequence[dict[str, Any]], decoding: Decoding | None = None) -> list[Detections]:
    """Returns the detections that a network's maps stand for, of each cloud of a batch; see `detect`."""
    detector = detector_of(network)
    head, grid = detector.head, map_grid(network)
    if isinstance(head, AnchorHead):
        place = head.anchors(grid.shape, detector.grid.low, detector.grid.high)
        device = next(detector.parameters()).device
        return decode_anchors(
            outputs,
            place.to(device),
            len(head.classes),
            decoding or ANCHOR_DECODING,
            direction_offset=head.direction_offset,
        )
    return decode_centers(outputs, task_labels(network), grid, decoding or Decoding())


def evaluate(
    network: Network,
    scenes: Scenes,
    *,
    decoding: Decoding | None = None,
    device: str | torch.device | None = None,
    save: str | Path | None = None,
    description: str = "Detecting",
) -> Evaluation:
    """Returns what the data set's benchmark reports of a network.

    Arguments:
        network: a detector.
        scenes: of KITTI, nuScenes or ONCE.
        decoding, device, description: see `detect`.
        save: a folder for detections: KITTI's files, or one JSON file.

    Raises:
        WithinError: as `detect` does, and when the data set has no metric here.
    """
    if not isinstance(scenes, (KittiFrames, NuscenesFrames, OnceFrames)):
        raise WithinError(f"There is no metric for {type(scenes).__name__}")
    found = [
        detections
        for _, _, detections in detect(network, scenes, decoding=decoding, device=device, description=description)
    ]
    classes = detector_of(network).classes
    if isinstance(scenes, KittiFrames):
        return _on_kitti(scenes, found, classes, save)
    objects = [_lidar_objects(each, classes) for each in found]
    if save is not None:
        names = [scenes.scene(number).name for number in range(len(scenes))]
        write_json(Path(save) / "detections.json", {
            name: {"names": list(each.names), "boxes": each.boxes.tolist(), "scores": list(each.scores)}
            for name, each in zip(names, objects, strict=True)
        })  # fmt: skip
    rows = range(len(scenes))
    if isinstance(scenes, NuscenesFrames):
        objects = [each.take(range(min(len(each), MOST_BOXES))) for each in objects]  # of highest score
        ways = [scenes.to_global(row) for row in rows]
        truth = [scenes.objects(row).moved(way) for row, way in zip(rows, ways, strict=True)]
        moved = [each.moved(way) for each, way in zip(objects, ways, strict=True)]
        vehicles = np.array([scenes.vehicle(row)[:2] for row in rows])
        return NuscenesEvaluation(nuscenes_score(truth, moved, vehicles=vehicles), len(scenes))
    truth = [each.objects or lidar_objects([], np.zeros((0, 7))) for each in scenes.frames]
    return OnceEvaluation(once_average_precision(truth, objects), len(scenes))


def _on_kitti(
    frames: KittiFrames, found: Sequence[Detections], classes: Sequence[str], save: str | Path | None
) -> KittiEvaluation:
    truth, objects = [], []
    for index, detections in enumerate(found):
        truth.append(frames.labels(index))
        objects.append(kitti_detections(detections, classes, frames.calibration(index), frames.image_size(index)))
        if save is not None:
            Path(save).mkdir(parents=True, exist_ok=True)
            write_detections(Path(save) / f"{frames.names[index]}.txt", objects[-1])
    return KittiEvaluation(average_precision(truth, objects, classes=classes), tuple(classes), len(truth))


def _lidar_objects(found: Detections, classes: Sequence[str]) -> LidarObjects:
    velocities = found.boxes[:, 7:9] if found.boxes.shape[1] > 7 else None
    return lidar_objects(
        [classes[label] for label in found.labels], found.boxes[:, :7], velocities=velocities, scores=found.scores
    )


def main(config: str | Path | Mapping[str, Any]) -> Evaluation:
    """Evaluates as a configuration says.

    Arguments:
        config: a Python configuration, or the settings themselves (see `DetectionEvaluationSettings`).

    Raises:
        WithinError: for unknown or missing keys, and as `open_detector`, `find_scenes` and `evaluate` do.
    """
    read, where = read_config(config)
    given = {key: value for key, value in read.to_dict().items() if value is not None}
    settings = read_dataclass(DetectionEvaluationSettings, given, where)
    scenes = find_scenes(settings.data, settings.split)
    if settings.limit is not None:
        scenes = scenes.take(range(min(settings.limit, len(scenes))))
    named = open_detector(settings.network, weights=settings.weights, arguments=settings.arguments)
    return evaluate(
        named.model,
        scenes,
        decoding=settings.decoding,
        device=settings.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        save=settings.save,
    )
