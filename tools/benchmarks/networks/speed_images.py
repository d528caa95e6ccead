"""CIFAR-10 images for networks that look at 224x224 pixels: small in memory, enlarged where they enter the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

MARGIN = 4  # of a random crop, in pixels of the small image


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


class RandomCrops:
    """Batches of labelled images, each shifted by up to four pixels and mirrored every other time."""

    def __init__(self, images: Float[Tensor, "count 3 32 32"], labels: Int[Tensor, " count"]) -> None:
        self.images, self.labels = F.pad(images, (MARGIN,) * 4), labels
        self.size = images.shape[-1]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns the crops of the chosen images, and their labels."""
        corners = torch.randint(2 * MARGIN + 1, (len(indices), 2), generator=generator)
        mirrored = torch.rand(len(indices), generator=generator) < 0.5
        crops = torch.stack(
            [
                self.images[item, :, top : top + self.size, left : left + self.size]
                for item, (top, left) in zip(indices.tolist(), corners.tolist(), strict=True)
            ]
        )
        return torch.where(mirrored.view(-1, 1, 1, 1), crops.flip(-1), crops), self.labels[indices]
