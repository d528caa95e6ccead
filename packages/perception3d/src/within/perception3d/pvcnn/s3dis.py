"""PVCNN and PointNet for semantic segmentation of rooms (S3DIS): 9 features a point, of which the first 3 are x, y, z.

Liu, Tang, Lin, Han: Point-Voxel CNN for Efficient 3D Deep Learning, NeurIPS 2019; Qi et al.: PointNet, CVPR 2017.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.perception3d.pvcnn.point_blocks import Block, point_blocks
from within.perception3d.pvcnn.point_mlp import classifier, dense_block

PVCNN_BLOCKS: tuple[Block, ...] = ((64, 1, 32), (64, 2, 16), (128, 1, 16), (1024, 1, None))
POINTNET_BLOCKS: tuple[Block, ...] = ((64, 3, None), (128, 1, None), (1024, 1, None))
CLOUD = (256, 128)


class RoomPVCNN(nn.Module):
    """Scores from the features of all layers and of the whole cloud.

    Arguments:
        classes: outputs.
        in_channels: features of a point.
        width: multiplies all widths.
        resolution: multiplies all resolutions.
    """

    def __init__(self, classes: int = 13, *, in_channels: int = 9, width: float = 1.0, resolution: float = 1.0) -> None:
        super().__init__()
        self.point_layers, widths = point_blocks(PVCNN_BLOCKS, in_channels, width=width, resolution=resolution)
        first, second = (int(width * each) for each in CLOUD)
        self.cloud_layers = nn.Sequential(dense_block(widths[-1], first), dense_block(first, second))
        hidden = int(width * 512), 0.3, int(width * 256), 0.3
        self.classifier = classifier(sum(widths) + second, hidden, classes)

    def forward(self, features: Float[Tensor, "batch in_channels points"]) -> Float[Tensor, "batch classes points"]:
        """Returns class scores of every point."""
        points, found = features[:, :3], []
        for layer in self.point_layers:
            features = layer(features, points)
            found.append(features)
        cloud = self.cloud_layers(features.amax(-1))
        return self.classifier(torch.cat([*found, cloud[:, :, None].expand(-1, -1, points.shape[-1])], dim=1))


class RoomPointNet(nn.Module):
    """The same without voxels: scores from the last features of a point and of the whole cloud.

    Arguments:
        classes: outputs.
        in_channels: features of a point.
        width: multiplies all widths.
    """

    def __init__(self, classes: int = 13, *, in_channels: int = 9, width: float = 1.0) -> None:
        super().__init__()
        self.point_layers, widths = point_blocks(POINTNET_BLOCKS, in_channels, width=width)
        first, second = (int(width * each) for each in CLOUD)
        self.cloud_layers = nn.Sequential(dense_block(widths[-1], first), dense_block(first, second))
        hidden = int(width * 512), int(width * 256), 0.3
        self.classifier = classifier(widths[-1] + second, hidden, classes)

    def forward(self, features: Float[Tensor, "batch in_channels points"]) -> Float[Tensor, "batch classes points"]:
        """Returns class scores of every point."""
        points = features[:, :3]
        for layer in self.point_layers:
            features = layer(features, points)
        cloud = self.cloud_layers(features.amax(-1))
        return self.classifier(torch.cat([features, cloud[:, :, None].expand(-1, -1, points.shape[-1])], dim=1))
