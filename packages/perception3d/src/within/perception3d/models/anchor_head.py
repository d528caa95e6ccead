"""The head of SECOND and PointPillars: for every anchor at every pixel a class, a box, and its direction.

Yan, Mao, Li: SECOND, Sensors 2018. Anchors have one size a class and two angles; see `anchors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.perception3d.models.bev_layers import BevConvolution
from within.perception3d.models.bev_map import BevMap

ANGLES = (0.0, math.pi / 2)
DIRECTION_OFFSET = math.pi / 4


@dataclass(frozen=True)
class AnchorClass:
    """Anchors of one class.

    Attributes:
        name: of the class.
        size: length, width and height in metres.
        bottom: height of the lower face.
        matched, unmatched: overlap from which an anchor stands for an object, and below which it is background.
    """

    name: str
    size: tuple[float, float, float]
    bottom: float
    matched: float
    unmatched: float


KITTI_ANCHORS = (
    AnchorClass("Car", (3.9, 1.6, 1.56), -1.78, 0.6, 0.45),
    AnchorClass("Pedestrian", (0.8, 0.6, 1.73), -0.6, 0.5, 0.35),
    AnchorClass("Cyclist", (1.76, 0.6, 1.73), -0.6, 0.5, 0.35),
)


class AnchorHead(nn.Module):
    """See the module.

    Arguments:
        in_channels: of the map.
        anchor_classes: one entry a class; also as mappings.
        angles: of the anchors of a class.
        aligned: put anchors into the middle of the pixels, instead of the first and last ones on the region's borders.
        direction_offset: angle from which the halves of the circle are counted.
    """

    def __init__(
        self,
        in_channels: int,
        anchor_classes: Sequence[AnchorClass | Mapping[str, Any]] = KITTI_ANCHORS,
        *,
        angles: Sequence[float] = ANGLES,
        aligned: bool = False,
        direction_offset: float = DIRECTION_OFFSET,
    ) -> None:
        super().__init__()
        self.anchor_classes = tuple(
            each if isinstance(each, AnchorClass) else AnchorClass(**{**each, "size": tuple(each["size"])})
            for each in anchor_classes
        )
        self.angles, self.aligned, self.direction_offset = tuple(angles), aligned, direction_offset
        anchors = len(self.angles) * len(self.anchor_classes)
        self.scores = BevConvolution(in_channels, anchors * len(self.anchor_classes), 1, bias=True)
        self.boxes = BevConvolution(in_channels, anchors * 7, 1, bias=True)
        self.directions = BevConvolution(in_channels, anchors * 2, 1, bias=True)
        nn.init.constant_(self.scores.bias, -math.log((1 - 0.01) / 0.01))  # type: ignore[arg-type]
        nn.init.normal_(self.boxes.weight, std=1e-3)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(each.name for each in self.anchor_classes)

    def anchors(
        self, shape: tuple[int, int], low: Sequence[float], high: Sequence[float]
    ) -> Float[Tensor, "height width classes angles 7"]:
        """Returns the anchors of a map of this head; see the function `anchors`."""
        return anchors(self.anchor_classes, shape, low, high, angles=self.angles, aligned=self.aligned)

    def forward(self, x: BevMap) -> list[dict[str, Any]]:
        """Returns maps by name, in the form of the input; channels are (class, angle) and within them the values:
        heatmap (scores of all classes before the sigmoid), boxes (7 residuals) and directions (2 scores).
        """
        return [{"heatmap": self.scores(x), "boxes": self.boxes(x), "directions": self.directions(x)}]


def anchors(
    classes: Sequence[AnchorClass],
    shape: tuple[int, int],
    low: Sequence[float],
    high: Sequence[float],
    *,
    angles: Sequence[float] = ANGLES,
    aligned: bool = False,
) -> Float[Tensor, "height width classes angles 7"]:
    """Returns the anchors of a map: x, y and z of the middle, length, width, height and angle.

    Arguments:
        classes: of the head.
        shape: height and width of the map in pixels.
        low, high: corners of the region; the first and last anchors stand on its borders.
        angles, aligned: see `AnchorHead`.
    """
    rows, columns = (_places(low[axis], high[axis], shape[1 - axis], aligned) for axis in (1, 0))
    found = torch.zeros(*shape, len(classes), len(angles), 7)
    found[..., 0], found[..., 1] = columns[None, :, None, None], rows[:, None, None, None]
    for number, each in enumerate(classes):
        found[:, :, number, :, 2] = each.bottom + each.size[2] / 2
        found[:, :, number, :, 3:6] = torch.tensor(each.size)
    found[..., 6] = torch.tensor(angles)
    return found


def _places(low: float, high: float, count: int, aligned: bool) -> Tensor:
    if not aligned:
        return torch.linspace(low, high, count)
    edges = torch.linspace(low, high, count + 1)
    return edges[:-1] + (edges[1] - edges[0]) / 2
