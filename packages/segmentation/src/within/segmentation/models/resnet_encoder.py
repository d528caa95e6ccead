"""ResNet as an encoder of segmentation: stage outputs before their last ReLU, and a batch norm for every pyramid level.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016. The decoder begins with BatchNorm and
ReLU, so it takes the sum of a stage's last block before its ReLU (Orsic, Kreso, Bevandic, Segvic: In Defense of
Pre-trained ImageNet Architectures for Real-time Semantic Segmentation of Road-driving Images, CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.segmentation.models.level_norm import LevelNorm

STRIDES = (1, 2, 2, 2)
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut.

    Arguments:
        inputs, outputs: channels.
        stride: of the first convolution.
        levels: of the pyramid; the shortcut's batch norm is one for all of them.
    """

    expansion = 1

    def __init__(self, inputs: int, outputs: int, stride: int, levels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = LevelNorm(outputs, levels)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = LevelNorm(outputs, levels)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Float[Tensor, "batch inputs in_height in_width"], level: int) -> Tensor:
        """Returns the sum of both branches, before any ReLU."""
        y = F.relu(self.norm1(self.conv1(x), level))
        return self.norm2(self.conv2(y), level) + self.shortcut(x)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut, four times as wide outside as inside."""

    expansion = 4

    def __init__(self, inputs: int, outputs: int, stride: int, levels: int) -> None:
        super().__init__()
        inner = outputs // self.expansion
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.norm1 = LevelNorm(inner, levels)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.norm2 = LevelNorm(inner, levels)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.norm3 = LevelNorm(outputs, levels)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Float[Tensor, "batch inputs in_height in_width"], level: int) -> Tensor:
        """Returns the sum of both branches, before any ReLU."""
        y = F.relu(self.norm1(self.conv1(x), level))
        y = F.relu(self.norm2(self.conv2(y), level))
        return self.norm3(self.conv3(y), level) + self.shortcut(x)


class Stem(nn.Module):
    """A strided 7 x 7 convolution and max pooling: a quarter of the size.

    Arguments:
        width: channels.
        levels: of the pyramid.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.norm = LevelNorm(width, levels)

    def forward(self, image: Float[Tensor, "batch 3 height width"], level: int = 0) -> Tensor:
        """Returns the map that the first stage takes."""
        return F.max_pool2d(F.relu(self.norm(self.conv(image), level)), 3, stride=2, padding=1)


class Stage(nn.ModuleList):
    """Blocks of one width at one resolution."""

    def forward(
        self, x: Float[Tensor, "batch inputs in_height in_width"], level: int = 0
    ) -> tuple[Float[Tensor, "batch outputs height width"], Float[Tensor, "batch outputs height width"]]:
        """Returns the sum of the last block, which the decoder takes, and its ReLU, which the next stage takes."""
        total = x
        for block in self:
            total = block(x, level)
            x = F.relu(total)
        return total, x


class ResNetEncoder(nn.Module):
    """Stem and four stages.

    Arguments:
        depth: 18, 34, 50, 101 or 152, or the number of blocks in each of the four stages (of two convolutions each).
        width: channels of the stem and of the first stage's blocks; they double from stage to stage.
        levels: pyramid levels it will be applied to.

    Attributes:
        channels: channels of the four features.
        levels: as given.
    """

    def __init__(self, depth: int | Sequence[int] = 18, *, width: int = 64, levels: int = 1) -> None:
        super().__init__()
        if isinstance(depth, int) and depth not in DEPTHS:
            raise WithinError(f"There is no ResNet-{depth}", todo=f"choose among {', '.join(map(str, DEPTHS))}")
        blocks = DEPTHS[depth] if isinstance(depth, int) else tuple(depth)
        if len(blocks) != len(STRIDES) or min(blocks) < 1:
            raise WithinError(f"A ResNet has four stages, not {list(blocks)}", where="depth")
        block = Bottleneck if isinstance(depth, int) and depth >= 50 else BasicBlock
        self.stem = Stem(width, levels)
        self.levels = levels
        self.channels = tuple(width * 2**stage * block.expansion for stage in range(len(STRIDES)))
        stages, inputs = [], width
        for number, outputs, stride in zip(blocks, self.channels, STRIDES, strict=True):
            stage = [block(inputs, outputs, stride, levels)]
            stage += [block(outputs, outputs, 1, levels) for _ in range(number - 1)]
            stages.append(Stage(stage))
            inputs = outputs
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Float[Tensor, "batch 3 height width"], level: int = 0) -> list[Tensor]:
        """Returns the features at 1/4, 1/8, 1/16 and 1/32 of the size, before their ReLU."""
        x = self.stem(image, level)
        features = []
        for stage in self.stages:
            total, x = stage(x, level)
            features.append(total)
        return features


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
