"""Frustum networks: the points in the frustum of a 2-D box become a mask, a centre and a 3-D box.

Qi, Liu, Wu, Su, Guibas: Frustum PointNets for 3D Object Detection from RGB-D Data, CVPR 2018; with point-voxel
convolutions (PVCNN-E) in Liu et al., NeurIPS 2019. Coordinates are those of the frustum's camera, y downwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.perception3d.pvcnn.neighbours import gather
from within.perception3d.pvcnn.point_blocks import Block, point_blocks
from within.perception3d.pvcnn.point_mlp import PointMLP, classifier, dense_block
from within.perception3d.pvcnn.point_pyramid import Down, PointPyramid, Up

SIZES = {  # length, width and height in metres
    "Car": (3.88311640418, 1.62856739989, 1.52563191462),
    "Van": (5.06763659, 1.9007158, 2.20532825),
    "Truck": (10.13586957, 2.58549199, 3.2520595),
    "Pedestrian": (0.84422524, 0.66068622, 1.76255119),
    "Person_sitting": (0.80057803, 0.5983815, 1.27450867),
    "Cyclist": (1.76282397, 0.59706367, 1.73698127),
    "Tram": (16.17150617, 2.53246914, 3.53079012),
    "Misc": (3.64300781, 1.54298177, 1.92320313),
}
HEADINGS = 12
POINTNET: tuple[tuple[Block, ...], tuple[Block, ...]] = (((64, 3, None),), ((128, 1, None), (1024, 1, None)))
PVCNN_E: tuple[tuple[Block, ...], tuple[Block, ...]] = (((64, 2, 16), (64, 1, 12), (128, 1, 12), (1024, 1, None)), ())
BOX_BLOCKS: tuple[Block, ...] = ((128, 2, None), (256, 1, None), (512, 1, None))
MASK_DOWN = (
    Down(((32, 32, 64), (64, 64, 128), (64, 96, 128)), 128, (0.2, 0.4, 0.8), (32, 64, 128)),
    Down(((64, 64, 128), (128, 128, 256), (128, 128, 256)), 32, (0.4, 0.8, 1.6), (64, 64, 128)),
    Down(((128, 256, 1024),)),
)
MASK_UP = (Up((128, 128)),) * 3
BOX_DOWN = (
    Down(((64, 64, 128),), 128, (0.2,), (64,)),
    Down(((128, 128, 256),), 32, (0.4,), (64,)),
    Down(((256, 256, 512),)),
)


@dataclass(frozen=True, eq=False)
class FrustumOutput:
    """What a frustum network says of each frustum.

    Attributes:
        mask: scores of background and object, (batch, 2, points).
        coarse_centre, centre: of the object, (batch, 3), by the centre network and by the box network.
        heading_scores, heading_residuals: of the bins, (batch, headings); residuals in units of half a bin.
        size_scores: of the templates, (batch, sizes).
        size_residuals: relative to each template, (batch, sizes, 3).
    """

    mask: Tensor
    coarse_centre: Tensor
    centre: Tensor
    heading_scores: Tensor
    heading_residuals: Tensor
    size_scores: Tensor
    size_residuals: Tensor


torch.export.register_dataclass(FrustumOutput)


class FrustumNetwork(nn.Module):
    """Mask, then centre, then box.

    Arguments:
        kind: "pointnet", "pointnet++" or "pvcnn_e".
        classes: of objects, given to the network as a one-hot vector.
        in_channels: features of a point, coordinates first.
        object_points: points drawn from the mask.
        width: multiplies all widths.

    Raises:
        WithinError: for an unknown kind.
    """

    sizes: Tensor

    def __init__(
        self, kind: str = "pvcnn_e", *, classes: int = 3, in_channels: int = 4, object_points: int = 512,
        width: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if kind not in ("pointnet", "pointnet++", "pvcnn_e"):
            raise WithinError(
                f"There is no frustum network {kind!r}", todo='choose "pointnet", "pointnet++", "pvcnn_e"'
            )
        self.object_points = object_points
        self.register_buffer("sizes", torch.tensor(list(SIZES.values())), persistent=False)
        outputs = 3 + 2 * HEADINGS + 4 * len(SIZES)
        if kind == "pointnet++":
            self.mask: nn.Module = _PyramidMask(classes, in_channels, width)
            self.box: nn.Module = _PyramidBox(classes, outputs, width)
        else:
            blocks = PVCNN_E if kind == "pvcnn_e" else POINTNET
            self.mask = _Mask(*blocks, classes, in_channels, width)
            self.box = _Box(classes, outputs, width)
        self.centre = _Centre(classes, width)

    def forward(
        self,
        features: Float[Tensor, "batch channels points"],
        category: Float[Tensor, "batch classes"],
        generator: torch.Generator | None = None,
    ) -> FrustumOutput:
        """Returns mask, centres and box.

        Arguments:
            features: of the points of each frustum, coordinates first.
            category: one hot.
            generator: draws the points of the object; None takes them evenly from the mask, the same every time.
        """
        mask = self.mask(features, category)
        points, mean = foreground(features[:, :3], mask[:, 1] > mask[:, 0], self.object_points, generator)
        shift = self.centre(points, category)
        found = self.box(points - shift[:, :, None], category)
        centre, heading, heading_residual, size, size_residual = found.split(
            [3, HEADINGS, HEADINGS, len(SIZES), 3 * len(SIZES)], dim=1
        )
        coarse = mean + shift
        residuals = size_residual.view(-1, len(SIZES), 3)
        return FrustumOutput(mask, coarse, coarse + centre, heading, heading_residual, size, residuals)

    def boxes(self, output: FrustumOutput) -> Float[Tensor, "batch 7"]:
        """Returns centre, length, width, height and heading of the best bin and template."""
        rows = torch.arange(len(output.centre), device=output.centre.device)
        bins, templates = output.heading_scores.argmax(1), output.size_scores.argmax(1)
        heading = heading_of(bins, output.heading_residuals[rows, bins])
        sizes = self.sizes[templates] * (1 + output.size_residuals[rows, templates])
        return torch.cat([output.centre, sizes, heading[:, None]], dim=1)


def heading_of(bins: Tensor, residual: Tensor) -> Tensor:
    """Returns headings in radians from bins and residuals in half bins."""
    half = math.pi / HEADINGS
    return 2 * half * bins + half * residual


def foreground(
    points: Float[Tensor, "batch 3 points"], mask: Tensor, count: int, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "batch 3 count"], Float[Tensor, "batch 3"]]:
    """Returns points of a mask about their mean, and the mean; an empty mask gives zeros.

    Arguments:
        points: coordinates.
        mask: (batch, points).
        count: of points drawn, each as often as the others, give or take one.
        generator: None draws evenly spaced ones.
    """
    inside = mask.sum(1, keepdim=True)
    mean = (points * mask[:, None]).sum(2) / inside.clamp(min=1)
    few = inside.clamp(min=1)
    each = torch.arange(count, device=points.device)
    if generator is None:
        outside, order = (~mask).to(torch.uint8), each * few.clamp(min=count) // count % few
    else:
        noise = torch.rand(mask.shape, generator=generator, device=generator.device).to(points.device)
        outside, order = noise.masked_fill(~mask, 2.0), each % few
    rows = outside.argsort(dim=1, stable=True).gather(1, order)  # the points of the mask come first
    drawn = gather(points - mean[:, :, None], rows) * (inside > 0)[:, :, None]
    return drawn, mean


class _Mask(nn.Module):
    def __init__(
        self, points: tuple[Block, ...], cloud: tuple[Block, ...], classes: int, in_channels: int, width: float
    ) -> None:
        super().__init__()
        self.point_layers, widths = point_blocks(points, in_channels, width=width)
        self.cloud_layers, deeper = point_blocks(cloud, widths[-1], width=width)
        last = deeper[-1] if deeper else widths[-1]
        hidden = *(int(width * each) for each in (512, 256, 128, 128)), 0.5
        self.classifier = classifier(classes + widths[-1] + last, hidden, 2)

    def forward(self, features: Tensor, category: Tensor) -> Tensor:
        points = features[:, :3]
        for layer in self.point_layers:
            features = layer(features, points)
        cloud = features
        for layer in self.cloud_layers:
            cloud = layer(cloud, points)
        everywhere = (-1, -1, points.shape[2])
        whole = cloud.amax(2, keepdim=True).expand(*everywhere)
        scores: Tensor = self.classifier(torch.cat([category[:, :, None].expand(*everywhere), features, whole], dim=1))
        return scores


class _PyramidMask(nn.Module):
    def __init__(self, classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        self.pyramid = PointPyramid(MASK_DOWN, MASK_UP, in_channels - 3, in_channels, classes, width=width)
        self.classifier = classifier(self.pyramid.out_channels, (int(width * 128), 0.3), 2)

    def forward(self, features: Tensor, category: Tensor) -> Tensor:
        points, extra = features[:, :3].contiguous(), features[:, 3:]
        scores: Tensor = self.classifier(self.pyramid(extra, points, features, category))
        return scores


class _Centre(nn.Module):
    def __init__(self, classes: int, width: float) -> None:
        super().__init__()
        self.point_layers = PointMLP(3, [int(width * each) for each in (128, 128, 256)])
        self.cloud_layers = _regression(self.point_layers.out_channels + classes, (256, 128), 3, width)

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        found: Tensor = self.cloud_layers(torch.cat([self.point_layers(points).amax(2), category], dim=1))
        return found


class _Box(nn.Module):
    def __init__(self, classes: int, outputs: int, width: float) -> None:
        super().__init__()
        self.point_layers, widths = point_blocks(BOX_BLOCKS, 3, width=width, epsilon=1e-15)
        self.cloud_layers = _regression(widths[-1] + classes, (512, 256), outputs, width)

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        features = points
        for layer in self.point_layers:
            features = layer(features, points)
        found: Tensor = self.cloud_layers(torch.cat([features.amax(2), category], dim=1))
        return found


class _PyramidBox(nn.Module):
    def __init__(self, classes: int, outputs: int, width: float) -> None:
        super().__init__()
        self.pyramid = PointPyramid(BOX_DOWN, (), 0, width=width)
        self.cloud_layers = _regression(self.pyramid.out_channels + classes, (512, 256), outputs, width)

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        features = self.pyramid(None, points)
        found: Tensor = self.cloud_layers(torch.cat([features.flatten(1), category], dim=1))
        return found


def _regression(in_channels: int, hidden: tuple[int, int], outputs: int, width: float) -> nn.Sequential:
    first, second = (int(width * each) for each in hidden)
    return nn.Sequential(dense_block(in_channels, first), dense_block(first, second), nn.Linear(second, outputs))
