"""CIFAR-10 images for networks that look at 224x224 pixels: small in memory, enlarged where they enter the network."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def enlarge(images: Float[Tensor, "batch 3 height width"], size: int) -> Float[Tensor, "batch 3 {size} {size}"]:
    """Returns the images bilinearly enlarged to `size` pixels a side."""
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


class Enlarging(nn.Module):
    """A network behind the enlargement of its images, so that data and teacher stay small."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        return self.network(enlarge(images, self.size))
