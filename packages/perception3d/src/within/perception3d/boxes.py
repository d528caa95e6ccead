"""The geometry of upright boxes, each (x, y, z, length, width, height, yaw) in the lidar's frame, z at its middle.

Angles are in radians, from x towards y. Boxes in the image are (left, top, right, bottom) in pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGNS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


def in_box(points: NDArray[np.floating], box: NDArray[np.floating], margin: float = 0.0) -> NDArray[np.bool_]:
    """Returns which points lie in a box.

    Arguments:
        points: x, y, z and perhaps further columns.
        box: of seven numbers, or more.
        margin: by which the box is enlarged on every side, in metres.
    """
    offset = points[:, :3] - box[:3]
    cos, sin = np.cos(box[6]), np.sin(box[6])
    along, across = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin
    half = box[3:6] / 2 + margin
    found: NDArray[np.bool_] = (np.abs(np.stack([along, across, offset[:, 2]], axis=1)) <= half).all(1)
    return found


def box_corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the eight corners of boxes, (boxes, 8, 3)."""
    own = boxes[:, None, 3:6] * SIGNS
    cos, sin = np.cos(boxes[:, 6])[:, None], np.sin(boxes[:, 6])[:, None]
    turned = [own[..., 0] * cos - own[..., 1] * sin, own[..., 0] * sin + own[..., 1] * cos, own[..., 2]]
    found: NDArray[np.float64] = np.stack(turned, axis=2) + boxes[:, None, :3]
    return found


def around(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the smallest boxes in the image around places, (boxes, places, 2)."""
    return np.concatenate([places.min(1), places.max(1)], axis=1)


def clipped(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Returns boxes in the image cut at its edge.

    Arguments:
        boxes: to cut.
        size: height and width of the image.
    """
    height, width = size
    return np.clip(boxes, 0, np.array([width - 1, height - 1] * 2))


def wrapped(angles: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns angles within [-pi, pi)."""
    found: NDArray[np.floating] = (angles + np.pi) % (2 * np.pi) - np.pi
    return found


def observation_angles(rotations: NDArray[np.floating], locations: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns KITTI's alpha: the turn of boxes against the ray from the camera on which they lie.

    Arguments:
        rotations: about the camera's y axis.
        locations: in the camera's frame.
    """
    return wrapped(rotations - np.arctan2(locations[:, 0], locations[:, 2]))
