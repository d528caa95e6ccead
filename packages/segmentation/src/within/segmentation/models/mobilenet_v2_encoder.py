"""MobileNetV2 as an encoder of segmentation: the linear bottlenecks before each halving of the size.

Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018 (table 2). The
1,280-channel convolution of the classifier is left out. With a pyramid every batch norm has a copy a level.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.segmentation.models.level_norm import LevelNorm

# expansion, channels, blocks, stride
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
FEATURES = (1, 2, 4, 6)  # stages whose outputs are handed out: 1/4, 1/8, 1/16, 1/32


class InvertedResidual(nn.Module):
    """1 x 1 expansion, 3 x 3 depthwise convolution, 1 x 1 projection without activation; a sum where sizes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, levels: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = nn.Conv2d(inputs, inner, 1, bias=False) if expansion > 1 else None
        self.expand_norm = LevelNorm(inner, levels) if expansion > 1 else None
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.depthwise_norm = LevelNorm(inner, levels)
        self.project = nn.Conv2d(inner, outputs, 1, bias=False)
        self.project_norm = LevelNorm(outputs, levels)

    def forward(self, x: Float[Tensor, "batch inputs in_height in_width"], level: int) -> Tensor:
        """Returns the projection, added to its input where both have the same size."""
        y = x
        if self.expand is not None and self.expand_norm is not None:
            y = F.relu6(self.expand_norm(self.expand(y), level))
        y = F.relu6(self.depthwise_norm(self.depthwise(y), level))
        y = self.project_norm(self.project(y), level)
        return x + y if self.residual else y


class MobileNetV2Encoder(nn.Module):
    """Stem and seven stages of inverted residuals.

    Arguments:
        levels: pyramid levels it will be applied to.

    Attributes:
        channels: channels of the four features.
    """

    def __init__(self, *, levels: int = 1) -> None:
        super().__init__()
        inputs = 32
        self.conv = nn.Conv2d(3, inputs, 3, stride=2, padding=1, bias=False)
        self.norm = LevelNorm(inputs, levels)
        stages = []
        for expansion, outputs, blocks, stride in STAGES:
            stage = nn.ModuleList()
            for number in range(blocks):
                stage.append(InvertedResidual(inputs, outputs, stride if number == 0 else 1, expansion, levels))
                inputs = outputs
            stages.append(stage)
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(STAGES[number][1] for number in FEATURES)

    def forward(self, image: Float[Tensor, "batch 3 height width"], level: int = 0) -> list[Tensor]:
        """Returns the features at 1/4, 1/8, 1/16 and 1/32 of the size."""
        x = F.relu6(self.norm(self.conv(image), level))
        features = []
        for number, stage in enumerate(self.stages):
            for block in stage:
                x = block(x, level)
            if number in FEATURES:
                features.append(x)
        return features
