"""Average precision of a detector on a data set; this is `within perception3d eval`.

KITTI: image, bird's-eye and 3-D average precision at 11 and 40 recalls; mAP is the mean over classes of 3-D, moderate,
40 recalls.
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
from within.core.progress import track
from within.core.report import ReportTable
from within.perception3d.anchor_loss import ANCHOR_DECODING, decode_anchors
from within.perception3d.center_decoding import Decoding, decode_centers
from within.perception3d.data.kitti import KittiFrames, kitti_detections
from within.perception3d.data.kitti_labels import write_detections
from within.perception3d.data.scene import Scene, Scenes
from within.perception3d.detections import Detections
from within.perception3d.metrics.kitti_ap import DIFFICULTIES, Precisions, average_precision
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


@dataclass(frozen=True)
class KittiEvaluation:
    """Average precisions on KITTI's frames.

    Attributes:
        precisions: by class, kind and difficulty.
        classes: that were evaluated.
        frames: number of frames.
    """

    precisions: Precisions
    classes: tuple[str, ...]
    frames: int

    @property
    def mean(self) -> float:
        """mAP in per cent: mean over classes of 3-D, moderate, 40 recalls."""
        return float(np.mean([self.precisions[name, "3d", "moderate"].r40 for name in self.classes]))

    def summary(self) -> dict[str, float]:
        """Returns mAP and each class's 3-D precision, moderate, 40 recalls."""
        return {"mAP": self.mean} | {name: self.precisions[name, "3d", "moderate"].r40 for name in self.classes}

    def table(self) -> ReportTable:
        """Returns class x kind rows and difficulty columns, at 40 recalls and at 11."""
        rows = [
            (name, kind, *(round(self.precisions[name, kind, each].r40, 2) for each in DIFFICULTIES),
             *(round(self.precisions[name, kind, each].r11, 2) for each in DIFFICULTIES))
            for name in self.classes
            for kind in ("image", "bev", "3d", "aos")
        ]  # fmt: skip
        columns = (
            "class",
            "kind",
            *(f"{each} R40" for each in DIFFICULTIES),
            *(f"{each} R11" for each in DIFFICULTIES),
        )
        return ReportTable(f"Average precision on {self.frames} frames, mAP {self.mean:.2f}", columns, tuple(rows))

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "frames": self.frames,
            "mAP": self.mean,
            "average_precision": {
                name: {
                    kind: {each: {"R11": found.r11, "R40": found.r40} for each in DIFFICULTIES
                           if (found := self.precisions[name, kind, each])}
                    for kind in ("image", "bev", "3d", "aos")
                }
                for name in self.classes
            },
        }  # fmt: skip


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
) -> KittiEvaluation:
    """Returns the average precision of a network.

    Arguments:
        network: a detector.
        scenes: of a data set.
        decoding, device, description: see `detect`.
        save: a folder for detections.

    Raises:
        WithinError: as `detect` does, and when the data set has no metric here.
    """
    if not isinstance(scenes, KittiFrames):
        raise WithinError(f"There is no metric for {type(scenes).__name__}")
    truth, found, classes = [], [], detector_of(network).classes
    for index, _, detections in detect(network, scenes, decoding=decoding, device=device, description=description):
        objects = kitti_detections(detections, classes, scenes.calibration(index), scenes.image_size(index))
        truth.append(scenes.labels(index))
        found.append(objects)
        if save is not None:
            Path(save).mkdir(parents=True, exist_ok=True)
            write_detections(Path(save) / f"{scenes.names[index]}.txt", objects)
    return KittiEvaluation(average_precision(truth, found, classes=classes), classes, len(truth))


def main(config: str | Path | Mapping[str, Any]) -> KittiEvaluation:
    """Evaluates as a configuration says.

    Arguments:
        config: a Python configuration, or the settings themselves (see `DetectionEvaluationSettings`).

    Raises:
        WithinError: for unknown or missing keys, and as `open_detector`, `find_scenes` and `evaluate` do.
    """
    read, where = read_config(config)
    given = {key: value for key, value in read.to_dict().items() if value is not None}
    settings: DetectionEvaluationSettings = read_dataclass(
        DetectionEvaluationSettings, given, where, parts={"decoding": Decoding}
    )
    scenes: Any = find_scenes(settings.data, settings.split)
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
