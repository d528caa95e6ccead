"""The head of SECOND and PointPillars: for every anchor at every pixel a class, a box, and its direction.

Yan, Mao, Li: SECOND, Sensors 2018. Anchors have one size a class and two angles; see `anchors`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.perception3d.models.bev_layers import BevConvolution
from within.perception3d.models.bev_map import BevMap

ANGLES = (0.0, math.pi / 2)


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
        anchor_classes: one entry a class.
    """

    def __init__(self, in_channels: int, anchor_classes: Sequence[AnchorClass] = KITTI_ANCHORS) -> None:
        super().__init__()
        self.anchor_classes = tuple(anchor_classes)
        anchors = len(ANGLES) * len(self.anchor_classes)
        self.scores = BevConvolution(in_channels, anchors * len(self.anchor_classes), 1, bias=True)
        self.boxes = BevConvolution(in_channels, anchors * 7, 1, bias=True)
        self.directions = BevConvolution(in_channels, anchors * 2, 1, bias=True)
        nn.init.constant_(self.scores.bias, -math.log((1 - 0.01) / 0.01))  # type: ignore[arg-type]
        nn.init.normal_(self.boxes.weight, std=1e-3)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(each.name for each in self.anchor_classes)

    def forward(self, x: BevMap) -> list[dict[str, Any]]:
        """Returns maps by name, in the form of the input; channels are (class, angle) and within them the values:
        heatmap (scores of all classes before the sigmoid), boxes (7 residuals) and directions (2 scores).
        """
        return [{"heatmap": self.scores(x), "boxes": self.boxes(x), "directions": self.directions(x)}]


def anchors(
    classes: Sequence[AnchorClass], shape: tuple[int, int], low: Sequence[float], high: Sequence[float]
) -> Float[Tensor, "height width classes angles 7"]:
    """Returns the anchors of a map: x, y and z of the middle, length, width, height and angle.

    Arguments:
        classes: of the head.
        shape: height and width of the map in pixels.
        low, high: corners of the region; the first and last anchors stand on its borders.
    """
    rows = torch.linspace(low[1], high[1], shape[0])
    columns = torch.linspace(low[0], high[0], shape[1])
    found = torch.zeros(*shape, len(classes), len(ANGLES), 7)
    found[..., 0], found[..., 1] = columns[None, :, None, None], rows[:, None, None, None]
    for number, each in enumerate(classes):
        found[:, :, number, :, 2] = each.bottom + each.size[2] / 2
        found[:, :, number, :, 3:6] = torch.tensor(each.size)
    found[..., 6] = torch.tensor(ANGLES)
    return found
