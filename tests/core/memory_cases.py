"""Networks whose live memory is worked out by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIB = 2**20


class KeepsLocals(nn.Module):
    """Three convolutions of 8 channels whose results stay in local variables; a skip joins the first and the last."""

    def __init__(self, channels: int = 8, inplace: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.third = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        one = self.relu(self.first(x))
        two = self.relu(self.second(one))
        three = self.relu(self.third(two))
        return torch.cat([one, three], 1)


class Split(nn.Module):
    """Distillation as in IMDN: a slice of a split keeps the whole tensor alive."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.second = nn.Conv2d(6, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, passed = torch.split(self.first(x), (2, 6), 1)
        return torch.cat([kept, self.second(passed)], 1)


class Pooled(nn.Module):
    """Max pooling makes int64 indices, twice the bytes of its output."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x + 1, 2)


def small_network(channels: int = 8) -> nn.Module:
    """A factory for the measuring process."""
    return KeepsLocals(channels)


def bytes_of(channels: int, height: int = 16, width: int = 24) -> int:
    return 4 * channels * height * width
