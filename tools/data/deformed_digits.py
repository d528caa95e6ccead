"""Handwritten digits under small deformations that leave them the same digit: affine and elastic.

Simard, Steinkraus, Platt, "Best practices for convolutional neural networks applied to visual document analysis", ICDAR
2003: a smooth random field of displacements. Ours is a coarse grid of normal displacements, interpolated cubically.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 28


class DeformedDigits:
    """Batches of deformed digits with their labels.

    Arguments:
        images: uint8, (items, 28, 28).
        labels: of the items.
        mean: image that is subtracted, in [0, 1].
        shift, rotation, scale, shear, elastic: largest shift in pixels; standard deviations of the angle in radians, of
            the relative size, of the shear and of the elastic displacement in pixels.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: Tensor,
        *,
        shift: float = 2.0,
        rotation: float = 0.12,
        scale: float = 0.08,
        shear: float = 0.1,
        elastic: float = 1.0,
    ) -> None:
        self.images, self.labels, self.mean = images, labels, mean
        self.shift, self.rotation, self.scale, self.shear, self.elastic = shift, rotation, scale, shear, elastic

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns the digits of these numbers, each deformed in its own way."""
        pixels = self.images[indices].float()[:, None] / 255
        moved = F.grid_sample(pixels, self._grid(len(indices), generator), align_corners=False)
        return moved - self.mean, self.labels[indices]

    def _grid(self, count: int, generator: torch.Generator) -> Tensor:
        """Returns where each pixel comes from, in the units of `grid_sample`: the image spans -1 to 1."""

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        angle, wide, tall, shear = (normal(count) for _ in range(4))
        angle = self.rotation * angle
        matrix = torch.zeros(count, 2, 3)
        cosine, sine = angle.cos(), angle.sin()
        wide, tall = 1 + self.scale * wide, 1 + self.scale * tall
        matrix[:, 0, 0], matrix[:, 0, 1] = wide * cosine, wide * (self.shear * shear * cosine - sine)
        matrix[:, 1, 0], matrix[:, 1, 1] = tall * sine, tall * (self.shear * shear * sine + cosine)
        pixel = 2 / SIZE
        matrix[:, :, 2] = (2 * torch.rand(count, 2, generator=generator) - 1) * self.shift * pixel
        grid = F.affine_grid(matrix, [count, 1, SIZE, SIZE], align_corners=False)
        field = F.interpolate(normal(count, 2, 5, 5), size=(SIZE, SIZE), mode="bicubic", align_corners=True)
        return grid + field.permute(0, 2, 3, 1) * (self.elastic * pixel)


def plain_digits(images: Tensor, mean: Tensor) -> Tensor:
    """Returns digits as the network reads them: in [0, 1], the mean image subtracted, (items, 1, 28, 28)."""
    return images.float()[:, None] / 255 - mean
