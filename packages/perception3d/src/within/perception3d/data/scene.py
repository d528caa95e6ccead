"""One labelled point cloud, whatever data set it is from, and what every reader of a data set offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True, eq=False)
class Scene:
    """A point cloud with its objects, in the lidar's frame: x forward, y left, z up, in metres.

    Attributes:
        name: of the frame.
        points: x, y, z, intensity and perhaps further columns.
        boxes: x, y and z of the middle, length, width, height, yaw, and perhaps two velocities.
        classes: name of each box's class.
    """

    name: str
    points: Float32[np.ndarray, "points columns"]
    boxes: Float32[np.ndarray, "objects values"]
    classes: tuple[str, ...]


@runtime_checkable
class Scenes(Protocol):
    """A part of a data set."""

    def __len__(self) -> int: ...

    def scene(self, index: int) -> Scene:
        """Returns a frame."""
        ...
