"""How boxes are read from the maps of CenterPoint's head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from within.perception3d.center_loss import NOTHING, ORDER
from within.perception3d.detections import Detections
from within.perception3d.heatmap import MapGrid
from within.perception3d.models.bev_map import dense
from within.perception3d.rotated_nms import rotated_nms


@dataclass(frozen=True)
class Decoding:
    """How boxes are read from maps.

    Attributes:
        most: highest scores that are looked at.
        least_score: below it nothing is a detection.
        limits: region of centres: low and high x, y, z; everywhere by default. The published KITTI configuration has
            (-75.2, -75.2, -2, 75.2, 75.2, 4).
        overlap: of boxes of which one goes.
        before, after: boxes before and after the suppression.
        by_class: with anchors, boxes of different classes do not suppress each other.
    """

    most: int = 500
    least_score: float = 0.1
    limits: tuple[float, float, float, float, float, float] | None = None
    overlap: float = 0.7
    before: int = 4096
    after: int = 500
    by_class: bool = False


def decode_centers(
    outputs: Sequence[dict[str, Any]],
    tasks: Sequence[Sequence[int]],
    grid: MapGrid,
    decoding: Decoding = Decoding(),
) -> list[Detections]:
    """Returns the detections of each cloud of a batch.

    Arguments:
        outputs: of a `CenterHead`, in any form.
        tasks: classes of each task.
        grid: of the head's maps.
        decoding: how.
    """
    tables = [_read_task(maps, classes, grid, decoding) for maps, classes in zip(outputs, tasks, strict=True)]
    found = []
    for sample in range(len(tables[0])):
        parts = [suppressed(task[sample], decoding) for task in tables]
        joined = [np.concatenate([part[number] for part in parts]) for number in range(3)]
        order = np.argsort(-joined[1], kind="stable")
        found.append(Detections(*(each[order] for each in joined)))
    return found


Table = tuple[np.ndarray, np.ndarray, np.ndarray]


def suppressed(table: Table, decoding: Decoding) -> Table:
    """Returns boxes, scores and labels that stay after the thresholds and the suppression."""
    boxes, scores, labels = table
    good = scores > decoding.least_score
    if decoding.limits is not None:
        low, high = np.array(decoding.limits[:3]), np.array(decoding.limits[3:])
        good &= ((boxes[:, :3] >= low) & (boxes[:, :3] <= high)).all(1)
    boxes, scores, labels = boxes[good], scores[good], labels[good]
    kept = rotated_nms(boxes, scores, decoding.overlap, before=decoding.before, after=decoding.after)
    return boxes[kept], scores[kept], labels[kept]


def _read_task(maps: dict[str, Any], classes: Sequence[int], grid: MapGrid, decoding: Decoding) -> list[Table]:
    scores = torch.sigmoid(dense(maps["heatmap"], NOTHING)).flatten(1)
    values = torch.cat([dense(maps[name]) for name in ORDER if name in maps], dim=1).flatten(2)
    area, width = values.shape[2], grid.shape[1]
    best, where = scores.topk(min(decoding.most, scores.shape[1]), dim=1)
    kinds, pixels = where // area, where % area
    at = values.gather(2, pixels[:, None].expand(-1, values.shape[1], -1)).mT
    boxes = _boxes(at, pixels // width, pixels % width, grid)
    names = torch.tensor(list(classes), device=kinds.device)[kinds]
    arrays = [each.detach().cpu().numpy() for each in (boxes, best, names)]
    return [(arrays[0][row], arrays[1][row], arrays[2][row]) for row in range(len(best))]


def _boxes(values: Tensor, rows: Tensor, columns: Tensor, grid: MapGrid) -> Tensor:
    x = (columns + values[..., 0]) * grid.pixel[0] + grid.low[0]
    y = (rows + values[..., 1]) * grid.pixel[1] + grid.low[1]
    sizes = values[..., 3:6].exp()
    yaw = torch.atan2(values[..., 7], values[..., 6])
    return torch.cat([torch.stack([x, y, values[..., 2]], dim=-1), sizes, yaw[..., None], values[..., 8:]], dim=-1)
