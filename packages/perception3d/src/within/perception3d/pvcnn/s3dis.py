"""PVCNN and PointNet for semantic segmentation of rooms (S3DIS): 9 features a point, of which the first 3 are x, y, z.

Liu, Tang, Lin, Han: Point-Voxel CNN for Efficient 3D Deep Learning, NeurIPS 2019; Qi et al.: PointNet, CVPR 2017.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.perception3d.pvcnn.point_blocks import Block, point_blocks
from within.perception3d.pvcnn.point_mlp import classifier, dense_block
from within.perception3d.pvcnn.point_pyramid import Down, PointPyramid, Up

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


ROOM_DOWN = (
    Down(((32, 64),), 1024, (0.1,), (32,), (32, 2, 32)),
    Down(((64, 128),), 256, (0.2,), (32,), (64, 3, 16)),
    Down(((128, 256),), 64, (0.4,), (32,), (128, 3, 8)),
    Down(((256, 256, 512),), 16, (0.8,), (32,)),
)
ROOM_UP = (
    Up((256, 256), (256, 1, 8)),
    Up((256, 256), (256, 1, 8)),
    Up((256, 128), (128, 2, 16)),
    Up((128, 128, 64), (64, 1, 32)),
)


class RoomPVCNNPlusPlus(nn.Module):
    """PVCNN++: PointNet++ with point-voxel convolutions at every level.

    Arguments:
        classes: outputs.
        in_channels: features of a point, coordinates among them.
        width, resolution: multiply all widths and resolutions.
    """

    def __init__(self, classes: int = 13, *, in_channels: int = 9, width: float = 1.0, resolution: float = 1.0) -> None:
        super().__init__()
        extra = in_channels - 3
        self.pyramid = PointPyramid(
            ROOM_DOWN, ROOM_UP, extra, extra, width=width, resolution=resolution, squeeze_excitation=True
        )
        self.classifier = classifier(self.pyramid.out_channels, (int(width * 128), 0.5), classes)

    def forward(self, features: Float[Tensor, "batch in_channels points"]) -> Float[Tensor, "batch classes points"]:
        """Returns class scores of every point."""
        points, extra = features[:, :3].contiguous(), features[:, 3:]
        return self.classifier(self.pyramid(extra, points, extra))
