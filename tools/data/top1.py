"""The share of items that a classifier recognises."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def top1(model: nn.Module, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """Returns the share of images whose largest answer is their label, in per cent."""
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(1) for part in images.split(batch)])
    return float((answers == labels).float().mean()) * 100
