"""Boxes that a detector found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one cloud.

    Attributes:
        boxes: x, y, z, length, width, height, yaw and perhaps two velocities.
        scores: between 0 and 1, falling.
        labels: number of the class.
    """

    boxes: Float[np.ndarray, "boxes values"]
    scores: Float[np.ndarray, " boxes"]
    labels: Int64[np.ndarray, " boxes"]

    def __len__(self) -> int:
        return len(self.scores)
