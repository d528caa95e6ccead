"""Heat maps of object centres, as training targets.

    a Gaussian of sigma (2 r + 1) / 6 around each centre, the larger one where two meet

The radius r comes from how far a box may move and still overlap enough (Law and Deng: CornerNet, ECCV 2018), with the
roots (b + sqrt(b^2 - 4ac)) / 2 that CenterPoint's published numbers were made with: divided by 2, not by 2a.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

OVERLAP = 0.1


@dataclass(frozen=True)
class MapGrid:
    """Pixels over a region seen from above.

    Attributes:
        low: corner of the region, x and y in metres.
        pixel: extent of a pixel along x and y.
        shape: height and width in pixels.
    """

    low: tuple[float, float]
    pixel: tuple[float, float]
    shape: tuple[int, int]


def gaussian_radius(length: float, width: float, overlap: float = OVERLAP) -> float:
    """Returns the radius for a box of so many pixels; see the module."""
    roots = (
        (length + width, length * width * (1 - overlap) / (1 + overlap), 1.0),
        (2 * (length + width), (1 - overlap) * length * width, 4.0),
        (-2 * overlap * (length + width), (overlap - 1) * length * width, 4 * overlap),
    )
    return min((b + math.sqrt(max(b * b - 4 * a * c, 0.0))) / 2 for b, c, a in roots)


def draw(heatmap: NDArray[np.float32], row: int, column: int, radius: int) -> None:
    """Raises a map (height, width) around a pixel, in place."""
    _draw(heatmap, row, column, radius)


def centre_pixels(boxes: NDArray[np.floating], grid: MapGrid) -> NDArray[np.float64]:
    """Returns where box centres lie in pixels: column and row, kept within [0, size - 0.5].

    Arguments:
        boxes: (objects, 7 or more): x, y, z, length, width, height, yaw.
        grid: of the map.
    """
    found = (boxes[:, :2].astype(np.float64) - grid.low) / grid.pixel
    return np.clip(found, 0, np.array([grid.shape[1], grid.shape[0]]) - 0.5)


def radii(boxes: NDArray[np.floating], grid: MapGrid, least: int) -> NDArray[np.int64]:
    """Returns the radius of each box in whole pixels, at least `least`."""
    found = [gaussian_radius(box[3] / grid.pixel[0], box[4] / grid.pixel[1]) for box in boxes]
    return np.maximum(np.array(found, dtype=np.float64).astype(np.int64), least)


@njit(cache=True)
def _draw(heatmap, row, column, radius):  # type: ignore[no-untyped-def]
    sigma = (2 * radius + 1) / 6
    height, width = heatmap.shape
    for y in range(max(row - radius, 0), min(row + radius + 1, height)):
        for x in range(max(column - radius, 0), min(column + radius + 1, width)):
            value = np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * sigma * sigma))
            if value > heatmap[y, x] and value >= 2.3e-16:
                heatmap[y, x] = value
