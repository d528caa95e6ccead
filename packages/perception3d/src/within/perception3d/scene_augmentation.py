"""Random changes of a training scene: objects of other scenes put in, mirrored, turned, scaled.

Yan, Mao, Li: SECOND, Sensors 2018, section 3.4. Every change is drawn from the generator that is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from within.core.progress import track
from within.perception3d.boxes import in_box
from within.perception3d.data.scene import Scene, Scenes
from within.perception3d.rotated_nms import GROUND
from within.perception3d.rotated_overlap import rectangle_overlaps


@dataclass(frozen=True)
class Augmentation:
    """How scenes are changed.

    Attributes:
        flip: mirror left and right, half of the time; with "both", front and back as well.
        rotation: largest angle in radians.
        scale: range of the factor.
        sample: objects of each class that a scene is filled up to with those of other scenes.
        least_points: of an object that is put in.
        shuffle: the order of the points, which decides which are kept of a full voxel.
    """

    flip: bool | str = True
    rotation: float = math.pi / 4
    scale: Sequence[float] = (0.95, 1.05)
    sample: Mapping[str, int] = field(default_factory=dict)
    least_points: int = 5
    shuffle: bool = True


@dataclass(frozen=True, eq=False)
class ObjectSamples:
    """Objects cut out of training scenes, by class.

    Attributes:
        boxes: of each class, (objects, 7).
        points: of each object, relative to its middle.
    """

    boxes: Mapping[str, NDArray[np.float32]]
    points: Mapping[str, Sequence[NDArray[np.float32]]]


def object_samples(scenes: Scenes, classes: Sequence[str], least_points: int = 5) -> ObjectSamples:
    """Returns the objects of all scenes that hold enough points."""
    boxes: dict[str, list[NDArray[np.float32]]] = {name: [] for name in classes}
    points: dict[str, list[NDArray[np.float32]]] = {name: [] for name in classes}
    for index in track(range(len(scenes)), "Collecting objects"):
        scene = scenes.scene(index)
        for box, name in zip(scene.boxes, scene.classes, strict=True):
            if name not in boxes:
                continue
            inside = scene.points[in_box(scene.points, box)]
            if len(inside) >= least_points:
                inside[:, :3] -= box[:3]
                boxes[name].append(box)
                points[name].append(inside)
    stacked = {name: np.array(each, np.float32).reshape(len(each), -1) for name, each in boxes.items()}
    return ObjectSamples(stacked, points)


def augment(
    scene: Scene, how: Augmentation, generator: np.random.Generator, samples: ObjectSamples | None = None
) -> Scene:
    """Returns a changed scene; the original stays as it is.

    Arguments:
        scene: to change.
        how: see `Augmentation`.
        generator: of all random numbers.
        samples: objects that may be put in.
    """
    if samples is not None and how.sample:
        scene = _filled(scene, how.sample, generator, samples)
    points, boxes = scene.points.copy(), scene.boxes.copy()
    if how.flip and generator.random() < 0.5:
        points[:, 1] *= -1
        boxes[:, [1, 6]] *= -1
        boxes[:, 8:9] *= -1
    if how.flip == "both" and generator.random() < 0.5:
        points[:, 0] *= -1
        boxes[:, 0] *= -1
        boxes[:, 6] = np.pi - boxes[:, 6]
        boxes[:, 7:8] *= -1
    angle, factor = generator.uniform(-how.rotation, how.rotation), generator.uniform(*how.scale)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    points[:, :2] = points[:, :2] @ turn.T
    boxes[:, :2] = boxes[:, :2] @ turn.T
    boxes[:, 6] += angle
    if boxes.shape[1] > 7:
        boxes[:, 7:9] = boxes[:, 7:9] @ turn.T * factor
    points[:, :3] *= factor
    boxes[:, :6] *= factor
    if how.shuffle:
        points = points[generator.permutation(len(points))]
    return replace(scene, points=points, boxes=boxes)


def _filled(scene: Scene, wanted: Mapping[str, int], generator: np.random.Generator, samples: ObjectSamples) -> Scene:
    boxes, classes, points = scene.boxes, list(scene.classes), scene.points
    added = []
    for name, count in wanted.items():
        there = samples.boxes.get(name, np.zeros((0, 7), np.float32))
        missing = min(count - scene.classes.count(name), len(there))
        for row in generator.choice(len(there), missing, replace=False) if missing > 0 else ():
            box = there[row]
            ground = np.ascontiguousarray(box[None, GROUND], np.float64)
            if len(boxes) and rectangle_overlaps(ground, np.ascontiguousarray(boxes[:, GROUND], np.float64)).max() > 0:
                continue
            boxes = np.concatenate([boxes, box[None]]) if len(boxes) else box[None]
            classes.append(name)
            inside = samples.points[name][row].copy()
            inside[:, :3] += box[:3]
            points = points[~in_box(points, box)]
            added.append(inside)
    return replace(scene, points=np.concatenate([points, *added]), boxes=boxes, classes=tuple(classes))
