"""Frustums as a frustum network takes them, and its boxes back in the camera's frame.

Items are ((features (4, points), category one hot), target), with points drawn anew each time. For training half of
the frustums are mirrored, and all are moved along their axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from within.core.errors import WithinError
from within.perception3d.boxes import observation_angles, wrapped
from within.perception3d.data.frustum import CLASSES, Frustum, turned
from within.perception3d.data.kitti_labels import KittiObjects
from within.perception3d.pvcnn.frustum import SIZES
from within.perception3d.pvcnn.frustum_loss import FrustumTarget

TEMPLATES = tuple(SIZES)
FIRST_SHIFT, LEAST_SHIFT, MOST_SHIFT = 0.05, 0.8, 1.2  # of the centre's distance from the axis, as published


class FrustumItems:
    """Frustums for training.

    Arguments:
        frustums: with labels.
        points: drawn of each, with repetition.
        classes: of the one-hot vector.
        augment: mirror and move.

    Raises:
        WithinError: when a frustum has no label or another class.
    """

    def __init__(
        self,
        frustums: Sequence[Frustum],
        *,
        points: int = 1024,
        classes: Sequence[str] = CLASSES,
        augment: bool = False,
    ) -> None:
        for frustum in frustums:
            if frustum.truth is None or frustum.category not in classes:
                raise WithinError(
                    f"A {frustum.category} cannot be trained on", where=f"frame {frustum.frame}",
                    todo=f"give labelled frustums of {', '.join(classes)}",
                )  # fmt: skip
        self.frustums, self.points, self.classes, self.augment = frustums, points, tuple(classes), augment

    def __len__(self) -> int:
        return len(self.frustums)

    def item_name(self, index: int) -> str:
        """Returns the frame of a frustum."""
        return f"frame {self.frustums[index].frame}"

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, Tensor], FrustumTarget]:
        """Returns what the network takes, and what is true."""
        frustum = self.frustums[index]
        truth = frustum.truth
        assert truth is not None
        chosen = np.random.choice(len(frustum.points), self.points, replace=True)
        points = turned(frustum.points[chosen], frustum.azimuth)
        centre = turned(truth.centre[None], frustum.azimuth)[0]
        heading = truth.heading - frustum.azimuth
        if self.augment:
            points, centre, heading = _augmented(points, centre, heading)
        target = FrustumTarget(
            torch.from_numpy(truth.mask[chosen].astype(np.int64)),
            torch.from_numpy(centre.astype(np.float32)),
            torch.tensor(heading, dtype=torch.float32),
            torch.from_numpy(truth.size.astype(np.float32)),
            torch.tensor(TEMPLATES.index(frustum.category)),
        )
        features = torch.from_numpy(np.ascontiguousarray(points.T, np.float32))
        return (features, one_hot(frustum.category, self.classes)), target


def frustum_inputs(
    frustums: Sequence[Frustum], *, points: int = 1024, classes: Sequence[str] = CLASSES, seed: int = 0
) -> tuple[Float[Tensor, "batch 4 points"], Float[Tensor, "batch classes"]]:
    """Returns what the network takes for evaluation.

    Arguments:
        frustums: with or without labels.
        points: drawn of each, with repetition.
        classes: of the one-hot vector.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    clouds = [
        turned(each.points[generator.choice(len(each.points), points, replace=True)], each.azimuth).T
        for each in frustums
    ]
    categories = [one_hot(each.category, classes) for each in frustums]
    return torch.from_numpy(np.stack(clouds).astype(np.float32)), torch.stack(categories)


def one_hot(category: str, classes: Sequence[str]) -> Float[Tensor, " classes"]:
    """Returns the vector that tells the network what to look for.

    Raises:
        WithinError: for a class that is not among them.
    """
    if category not in classes:
        raise WithinError(f"There is no class {category!r}", todo=f"choose among {', '.join(classes)}")
    return torch.tensor([float(name == category) for name in classes])


def camera_objects(frustums: Sequence[Frustum], boxes: Float[Tensor, "frustums 7"]) -> KittiObjects:
    """Returns boxes in the camera's frame, as KITTI's files hold them.

    Arguments:
        frustums: where they were found; the class, the 2-D box and the score are theirs.
        boxes: centre, length, width, height and heading in each frustum's own frame (`FrustumNetwork.boxes`).
    """
    found = boxes.double().cpu().numpy()
    azimuths = np.array([each.azimuth for each in frustums])
    centres = np.array([turned(box[None, :3], -a)[0] for box, a in zip(found, azimuths, strict=True)]).reshape(-1, 3)
    length, width, height = found[:, 3], found[:, 4], found[:, 5]
    locations = centres + np.stack([np.zeros_like(height), height / 2, np.zeros_like(height)], axis=1)
    rotations = wrapped(found[:, 6] + azimuths)
    unknown = np.full(len(found), -1.0)
    return KittiObjects(
        tuple(each.category for each in frustums),
        unknown,
        unknown,
        observation_angles(rotations, locations),
        np.array([each.image_box for each in frustums], np.float64).reshape(-1, 4),
        np.stack([length, height, width], axis=1),
        locations,
        rotations,
        np.array([each.score for each in frustums], np.float64),
    )


def _augmented(
    points: NDArray[np.floating], centre: NDArray[np.floating], heading: float
) -> tuple[NDArray[np.floating], NDArray[np.floating], float]:
    points, centre = points.copy(), centre.copy()
    if np.random.random() > 0.5:
        points[:, 0], centre[0], heading = -points[:, 0], -centre[0], math.pi - heading
    distance = math.hypot(centre[0], centre[1])
    shift = np.clip(np.random.randn() * distance * FIRST_SHIFT, distance * LEAST_SHIFT, distance * MOST_SHIFT)
    points[:, 2] += shift
    centre[2] += shift
    return points, centre, heading
