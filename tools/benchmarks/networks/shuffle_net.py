"""A small ShuffleNet: both generations' units, with the shuffle written as view, transpose and view.

Units with grouped pointwise convolutions (Zhang, Zhou, Lin, Sun, CVPR 2018) and units that split the channels in two
halves (Ma, Zhang, Zheng, Sun, ECCV 2018).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleaves the channels of the groups."""
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width).transpose(1, 2).contiguous()
    return x.view(batch, channels, height, width)


class GroupedUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1, and the residual sum."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        hidden = width // 2
        self.groups = groups
        self.reduce = nn.Conv2d(width, hidden, 1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.expand = nn.Conv2d(hidden, width, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = shuffle(F.relu(self.bn1(self.reduce(x))), self.groups)
        y = self.bn3(self.expand(self.bn2(self.depthwise(y))))
        return F.relu(x + y)


class SplitUnit(nn.Module):
    """One half passes, the other goes through 1x1, depthwise 3x3, 1x1; then the halves are interleaved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.depthwise = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        second = F.relu(self.bn1(self.conv1(second)))
        second = F.relu(self.bn3(self.conv2(self.bn2(self.depthwise(second)))))
        return shuffle(torch.cat([first, second], dim=1), 2)


class ShuffleNet(nn.Module):
    """A stem, two stages of grouped units, a transition, two stages of split units, a classifier."""

    def __init__(self, width: int = 96, groups: int = 3, classes: int = 100) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.grouped = nn.Sequential(*(GroupedUnit(width, groups) for _ in range(3)))
        self.transition = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.bn_transition = nn.BatchNorm2d(2 * width)
        self.split = nn.Sequential(*(SplitUnit(2 * width) for _ in range(4)))
        self.head = nn.Conv2d(2 * width, 256, 1)
        self.classifier = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(F.relu(self.bn(self.stem(x))))
        x = self.split(F.relu(self.bn_transition(self.transition(x))))
        return self.classifier(F.relu(self.head(x)).mean(dim=(2, 3)))
