"""A rotating lidar of 64 beams that looks at a synthetic scene, and its frames in KITTI's format.

Every ray ends at the first solid or at the ground. Ranges are noisy; returns get lost, more of them far away and at
grazing incidence, so that points, voxels and occupied cells from above are about as many as in real frames of KITTI.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.perception3d.boxes import around, box_corners, clipped, in_box, observation_angles, wrapped
from within.perception3d.data.kitti_calibration import KittiCalibration
from within.perception3d.data.kitti_labels import KittiObjects
from within.perception3d.ray_casting import cast_rays
from within.perception3d.synthetic_scene import SENSOR_HEIGHT, Street, make_street

ELEVATIONS = np.radians(np.concatenate([2 - np.arange(32) / 3, -8.83 - np.arange(32) / 2]))
AZIMUTHS = np.radians(np.arange(-45, 45, 0.1728))
FARTHEST = 80.0
RANGE_NOISE = 0.02
GROUND_REFLECTANCE = 0.5
LOST, LOST_FAR, GRAZING = 0.01, 0.12, 0.012  # share lost anywhere, the more at 80 m, and the cosine where half is lost
IMAGE_SIZE = (375, 1242)
LEAST_POINTS = 5
PARTLY_HIDDEN, LARGELY_HIDDEN = 0.15, 0.5


@dataclass(frozen=True, eq=False)
class SyntheticFrame:
    """One frame as KITTI has it.

    Attributes:
        points: x, y, z and reflectance.
        objects: those of which the camera sees at least 5 points.
        point_counts: points in each object's box that the camera sees.
        calibration: the same for all frames.
        image_size: height and width.
    """

    points: Float32[np.ndarray, "points 4"]
    objects: KittiObjects
    point_counts: Int64[np.ndarray, " objects"]
    calibration: KittiCalibration
    image_size: tuple[int, int]


def synthetic_frame(seed: int, number: int = 0) -> SyntheticFrame:
    """Returns one frame; the same for the same seed and number, whatever was made before.

    Arguments:
        seed, number: of the series and of the frame in it, both at least 0.

    Raises:
        WithinError: when a number is negative.
    """
    if seed < 0 or number < 0:
        raise WithinError(f"Seeds and numbers of frames are at least 0, not {seed} and {number}")
    generator = np.random.default_rng([seed, number])
    scene = make_street(generator)
    points, hidden = scan(scene, generator)
    calibration = synthetic_calibration()
    objects, counts = label(scene, points, hidden, calibration)
    return SyntheticFrame(points, objects, counts, calibration, IMAGE_SIZE)


def synthetic_calibration() -> KittiCalibration:
    """Returns a calibration with the focal length and centre of KITTI's rectified cameras, and mounts like its own."""
    projection = np.array([[721.5377, 0, 609.5593, 45.0], [0, 721.5377, 172.854, 0.2], [0, 0, 1, 0.003]])
    axes = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # x forward becomes z forward
    mount = _turned(0.008, 0.003, -0.006) @ axes
    return KittiCalibration(
        projection, _turned(0.004, -0.007, 0.01), np.concatenate([mount, [[-0.005], [-0.07], [-0.28]]], axis=1)
    )


def _turned(about_x: float, about_y: float, about_z: float) -> NDArray[np.float64]:
    turns = []
    for axis, angle in enumerate((about_x, about_y, about_z)):
        first, second = [each for each in range(3) if each != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        turns.append(turn)
    found: NDArray[np.float64] = turns[2] @ turns[1] @ turns[0]
    return found


def scan(scene: Street, generator: np.random.Generator) -> tuple[Float32[np.ndarray, "points 4"], NDArray[np.float64]]:
    """Returns the points of a scene, and the share of each object's rays that something else stops.

    Arguments:
        scene: to look at.
        generator: of noise and losses.
    """
    cos = np.cos(ELEVATIONS)
    directions = np.empty((len(AZIMUTHS), len(ELEVATIONS), 3))
    directions[..., 0] = np.cos(AZIMUTHS)[:, None] * cos
    directions[..., 1] = np.sin(AZIMUTHS)[:, None] * cos
    directions[..., 2] = np.sin(ELEVATIONS)
    chances = generator.random(directions.shape[:2])
    arrays = scene.solids, _spans(scene.solids), scene.owners, scene.densities
    ranges, hits, cosines, rays, seen = cast_rays(
        directions, AZIMUTHS, *arrays, len(scene.names), scene.slope, SENSOR_HEIGHT, chances
    )
    reflectances = np.append(scene.reflectances, GROUND_REFLECTANCE)[hits]  # the ground is -1
    lost = LOST + LOST_FAR * ranges / FARTHEST + np.exp2(-cosines / GRAZING)
    kept = (ranges < FARTHEST) & (generator.random(ranges.shape) >= lost)
    ranges = ranges + generator.normal(0, RANGE_NOISE, ranges.shape)
    light = reflectances * (0.5 + 0.5 * cosines) + generator.normal(0, 0.06, ranges.shape)
    points = np.concatenate(
        [(directions * np.where(kept, ranges, 0)[..., None])[kept], np.clip(light[kept], 0, 0.99)[:, None].round(2)],
        axis=1,
    )
    return points.astype(np.float32), 1 - seen / np.maximum(rays, 1)


def label(
    scene: Street, points: NDArray[np.float32], hidden: NDArray[np.float64], calibration: KittiCalibration
) -> tuple[KittiObjects, NDArray[np.int64]]:
    """Returns the objects that the camera sees, with image boxes cut at the image's edge, and the points in each.

    Arguments:
        scene, points, hidden: as made by `make_street` and `scan`.
        calibration: between the lidar and the image.
    """
    visible = points[calibration.in_image(points, IMAGE_SIZE), :3].astype(np.float64)
    counts = np.array([int(in_box(visible, box).sum()) for box in scene.boxes], np.int64).reshape(-1)
    corners, depths = calibration.image_points(calibration.camera_points(box_corners(scene.boxes).reshape(-1, 3)))
    whole = around(corners.reshape(-1, 8, 2))
    inside = clipped(whole, IMAGE_SIZE)
    areas = [(each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (whole, inside)]
    kept = (counts >= LEAST_POINTS) & (depths.reshape(-1, 8) > 0.1).all(1) & (areas[1] > 0)
    locations, sizes, rotations = calibration.camera_boxes(scene.boxes)
    rotations = wrapped(rotations)
    objects = KittiObjects(
        scene.names,
        1 - areas[1] / np.maximum(areas[0], 1e-9),
        ((hidden > PARTLY_HIDDEN).astype(int) + (hidden > LARGELY_HIDDEN)).astype(np.float64),
        observation_angles(rotations, locations),
        inside,
        sizes,
        locations,
        rotations,
    )
    rows = np.flatnonzero(kept)
    return objects.take(rows), counts[rows]


def _spans(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the least and largest azimuth of boxes, all of them for what reaches beside or behind the lidar."""
    corners = box_corners(boxes)
    angles = np.arctan2(corners[..., 1], corners[..., 0])
    spans = np.stack([angles.min(1), angles.max(1)], axis=1)
    spans[corners[..., 0].min(1) <= 0.1] = -np.pi, np.pi
    return spans
