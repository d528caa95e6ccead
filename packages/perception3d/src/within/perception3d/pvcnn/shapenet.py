"""PVCNN, PointNet and PointNet++ for parts of objects (ShapeNet): 6 features a point and the category as one hot.

Liu et al.: Point-Voxel CNN for Efficient 3D Deep Learning, NeurIPS 2019; Qi et al.: PointNet, CVPR 2017;
PointNet++, NeurIPS 2017.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.perception3d.pvcnn.point_blocks import Block, point_blocks
from within.perception3d.pvcnn.point_mlp import classifier
from within.perception3d.pvcnn.point_pyramid import Down, PointPyramid, Up

PVCNN_BLOCKS: tuple[Block, ...] = ((64, 1, 32), (128, 2, 16), (512, 1, None), (2048, 1, None))
POINTNET_BLOCKS: tuple[Block, ...] = ((64, 1, None), (128, 2, None), (512, 1, None), (2048, 1, None))
SSG_DOWN = (
    Down(((64, 64, 128),), 512, (0.2,), (64,)),
    Down(((128, 128, 256),), 128, (0.4,), (64,)),
    Down(((256, 512, 1024),)),
)
MSG_DOWN = (
    Down(((32, 32, 64), (64, 64, 128), (64, 96, 128)), 512, (0.1, 0.2, 0.4), (32, 64, 128)),
    Down(((128, 128, 256), (128, 196, 256)), 128, (0.4, 0.8), (64, 128)),
    Down(((256, 512, 1024),)),
)
UP = (Up((256, 256)), Up((256, 128)), Up((128, 128, 128)))


class PartPVCNN(nn.Module):
    """Scores from the category, the features of all layers, and the largest features of the cloud.

    Arguments:
        parts: outputs.
        categories: length of the one-hot vector that follows the features of each point.
        in_channels: features of a point.
        width, resolution: multiply all widths and resolutions.
        voxels: False for PointNet, which has none.
    """

    def __init__(
        self, parts: int = 50, *, categories: int = 16, in_channels: int = 6, width: float = 1.0,
        resolution: float = 1.0, voxels: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.categories = categories
        self.point_layers, widths = point_blocks(
            PVCNN_BLOCKS if voxels else POINTNET_BLOCKS, in_channels, width=width, resolution=resolution,
            squeeze_excitation=True, normalise=False,
        )  # fmt: skip
        hidden = int(width * 256), 0.2, int(width * 256), 0.2, int(width * 128)
        self.classifier = classifier(categories + sum(widths) + widths[-1], hidden, parts)

    def forward(self, features: Float[Tensor, "batch channels points"]) -> Float[Tensor, "batch parts points"]:
        """Returns scores of every point; the channels are the features and then the category."""
        own, category = features[:, : -self.categories], features[:, -self.categories :]
        points, found = own[:, :3], [category]
        for layer in self.point_layers:
            own = layer(own, points)
            found.append(own)
        found.append(own.amax(2, keepdim=True).expand_as(own))
        return self.classifier(torch.cat(found, dim=1))


class PartPointNetPlusPlus(nn.Module):
    """PointNet++ with one scale (SSG, which is not told the category) or several (MSG).

    Arguments:
        parts: outputs.
        categories: length of the one-hot vector that follows the features of each point, for several scales.
        in_channels: features of a point.
        width: multiplies all widths.
        scales: "one" or "several".
    """

    def __init__(
        self, parts: int = 50, *, categories: int = 16, in_channels: int = 6, width: float = 1.0,
        scales: str = "several",
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels = in_channels
        last = in_channels + (categories if scales == "several" else 0)
        down = MSG_DOWN if scales == "several" else SSG_DOWN
        self.pyramid = PointPyramid(down, UP, in_channels - 3, last, width=width)
        self.last_channels = last
        self.classifier = classifier(self.pyramid.out_channels, (int(width * 128), 0.5), parts)

    def forward(self, features: Float[Tensor, "batch channels points"]) -> Float[Tensor, "batch parts points"]:
        """Returns scores of every point."""
        points, extra = features[:, :3].contiguous(), features[:, 3 : self.in_channels]
        return self.classifier(self.pyramid(extra, points, features[:, : self.last_channels]))
