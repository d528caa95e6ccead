"""What CenterPoint's head is trained towards; Yin, Zhou, Krähenbühl, CVPR 2021.

At the pixel of each object's centre: offset within the pixel (2), height of the middle, logarithms of length, width
and height, cosine and sine of the yaw, and velocities where there are any. With `occupied` an object whose centre lies
in an empty pixel is looked for at the nearest occupied one, as a sparse head can only answer there (Chen et al.:
VoxelNeXt, CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from within.perception3d.heatmap import MapGrid, centre_pixels, draw, radii

MOST_OBJECTS = 500
REACH = 8  # pixels within which an occupied one is looked for


@dataclass(frozen=True, eq=False)
class CenterTargets:
    """Targets of one task for a batch.

    Attributes:
        heatmap: a channel a class.
        pixels: of each object, row * width + column.
        present: which of them are objects, and not filling.
        boxes: regression targets of each object.
    """

    heatmap: Float[Tensor, "batch classes height width"]
    pixels: Int64[Tensor, "batch objects"]
    present: Bool[Tensor, "batch objects"]
    boxes: Float[Tensor, "batch objects values"]


def center_targets(
    boxes: Float[Tensor, "batch objects values"],
    labels: Int64[Tensor, "batch objects"],
    classes: Sequence[int],
    grid: MapGrid,
    *,
    least_radius: int = 2,
    occupied: Bool[Tensor, "batch height width"] | None = None,
) -> CenterTargets:
    """Returns the targets of one task.

    Arguments:
        boxes: x, y, z, length, width, height, yaw and perhaps two velocities; filling after the last.
        labels: class of each, -1 for filling.
        classes: those of the task, in its order.
        grid: of the head's maps.
        least_radius: of a Gaussian, in pixels.
        occupied: pixels in which an object may be looked for; all by default.
    """
    values, names = boxes.detach().cpu().numpy(), labels.cpu().numpy()
    allowed = None if occupied is None else occupied.cpu().numpy()
    heatmap = np.zeros((len(values), len(classes), *grid.shape), np.float32)
    most = min(max(int((names >= 0).sum(1).max(initial=0)), 1), MOST_OBJECTS)
    pixels, present = np.zeros((len(values), most), np.int64), np.zeros((len(values), most), bool)
    found = np.zeros((len(values), most, values.shape[2] + 1), np.float32)
    for sample in range(len(values)):
        rows = [row for row in range(values.shape[1]) if names[sample, row] in classes]
        chosen = values[sample, [row for row in rows if values[sample, row, 3:5].min() > 0]][:most]
        kinds = [classes.index(names[sample, row]) for row in rows if values[sample, row, 3:5].min() > 0][:most]
        centres, sizes = centre_pixels(chosen, grid), radii(chosen, grid, least_radius)
        for number, (box, centre, radius, kind) in enumerate(zip(chosen, centres, sizes, kinds, strict=True)):
            column, row = int(centre[0]), int(centre[1])
            if allowed is not None:
                row, column = _nearest(allowed[sample], centre[1], centre[0], REACH)
                if row < 0:
                    continue
            draw(heatmap[sample, kind], row, column, int(radius))
            pixels[sample, number], present[sample, number] = row * grid.shape[1] + column, True
            found[sample, number] = _regression(box, centre - (column, row))
    tensors = (torch.from_numpy(each).to(boxes.device) for each in (heatmap, pixels, present, found))
    return CenterTargets(*tensors)


def _regression(box: NDArray[np.float32], offset: NDArray[np.float64]) -> NDArray[np.float32]:
    turned = [np.cos(box[6]), np.sin(box[6])]
    return np.concatenate([offset, box[2:3], np.log(box[3:6]), turned, box[7:]]).astype(np.float32)


@njit(cache=True)
def _nearest(occupied, y, x, reach):  # type: ignore[no-untyped-def]
    height, width = occupied.shape
    row, column = int(y), int(x)
    if occupied[row, column]:
        return row, column
    best, best_row, best_column = 1e9, -1, -1
    for r in range(max(row - reach, 0), min(row + reach + 1, height)):
        for c in range(max(column - reach, 0), min(column + reach + 1, width)):
            if occupied[r, c]:
                distance = (r + 0.5 - y) ** 2 + (c + 0.5 - x) ** 2
                if distance < best:
                    best, best_row, best_column = distance, r, c
    return best_row, best_column
