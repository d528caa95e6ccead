"""What was dropped, and whether any of it lay in an object; Ada3D, table 4.

in-box drop rate   share of the occupied pixels whose centre lies in a labelled box, that were dropped
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from within.core.report import ReportTable
from within.perception3d.ada3d.thinning import Choice
from within.perception3d.heatmap import MapGrid

MARGIN = 1e-5


@dataclass(frozen=True)
class DropCount:
    """Pixels of one place, over all frames so far.

    Attributes:
        kind, at: "3d" and the stage, or "2d" and the convolution.
        cells: pixels of the maps.
        occupied, dropped: pixels with something in them, and those of them that were dropped.
        in_boxes, dropped_in_boxes: the same within labelled boxes.
    """

    kind: str
    at: int
    cells: int = 0
    occupied: int = 0
    dropped: int = 0
    in_boxes: int = 0
    dropped_in_boxes: int = 0

    @property
    def occupancy(self) -> float:
        """Share of the pixels that are occupied before anything is dropped here."""
        return self.occupied / max(self.cells, 1)

    @property
    def drop_rate(self) -> float:
        """Share of the occupied pixels that were dropped."""
        return self.dropped / max(self.occupied, 1)

    @property
    def in_box_drop_rate(self) -> float:
        """The same within boxes; 0 where no box was occupied."""
        return self.dropped_in_boxes / max(self.in_boxes, 1)

    def plus(self, other: DropCount) -> DropCount:
        """Returns the counts of both."""
        return DropCount(
            self.kind, self.at, self.cells + other.cells, self.occupied + other.occupied, self.dropped + other.dropped,
            self.in_boxes + other.in_boxes, self.dropped_in_boxes + other.dropped_in_boxes,
        )  # fmt: skip


def drop_counts(choices: Iterable[Choice], boxes: NDArray[np.floating], grid: MapGrid) -> list[DropCount]:
    """Returns the counts of one cloud at each place.

    Arguments:
        choices: of a batch of one cloud.
        boxes: labelled, (objects, 7).
        grid: of the predictor's map.
    """
    inside = pixels_in_boxes(boxes, grid)
    found = []
    for choice in choices:
        before, dropped = _array(choice.before), _array(choice.before & ~choice.after)
        found.append(
            DropCount(choice.kind, choice.at, before.size, int(before.sum()), int(dropped.sum()),
                      int((before & inside).sum()), int((dropped & inside).sum()))
        )  # fmt: skip
    return found


def added(totals: Sequence[DropCount], counts: Sequence[DropCount]) -> list[DropCount]:
    """Returns sums place by place; either may be empty."""
    return [one.plus(two) for one, two in zip(totals, counts, strict=True)] if totals else list(counts)


def pixels_in_boxes(boxes: NDArray[np.floating], grid: MapGrid) -> Bool[np.ndarray, "height width"]:
    """Returns which pixels have their centre in a box, seen from above."""
    height, width = grid.shape
    x = grid.low[0] + (np.arange(width) + 0.5) * grid.pixel[0]
    y = grid.low[1] + (np.arange(height) + 0.5) * grid.pixel[1]
    found = np.zeros((height, width), bool)
    for box in boxes:
        cos, sin = np.cos(box[6]), np.sin(box[6])
        along = (x[None] - box[0]) * cos + (y[:, None] - box[1]) * sin
        across = -(x[None] - box[0]) * sin + (y[:, None] - box[1]) * cos
        found |= (np.abs(along) <= box[3] / 2 + MARGIN) & (np.abs(across) <= box[4] / 2 + MARGIN)
    return found


def as_table(totals: Sequence[DropCount]) -> ReportTable:
    """Returns a row a place, in per cent."""
    rows = [
        (f"after stage {each.at}" if each.kind == "3d" else f"before convolution {each.at}",
         *(round(100 * value, 2) for value in (each.occupancy, each.drop_rate, each.in_box_drop_rate)))
        for each in totals
    ]  # fmt: skip
    return ReportTable("What is dropped, %", ("place", "occupied", "dropped", "dropped in boxes"), tuple(rows))


def _array(mask: Tensor) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = mask[0].cpu().numpy()
    return found
