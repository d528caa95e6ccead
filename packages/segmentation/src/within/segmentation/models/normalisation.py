"""Normalisation of an RGB image in 0..255, inside the network: (x - mean) / deviation, never in the caller's tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

CITYSCAPES_MEAN, CITYSCAPES_DEVIATION = (73.15, 82.90, 72.3), (47.67, 48.49, 47.73)
CAMVID_MEAN, CAMVID_DEVIATION = (105.03319369, 108.40886315, 110.33102643), (69.90434816, 72.69074534, 72.12571015)
IMAGENET_MEAN, IMAGENET_DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Normalisation(nn.Module):
    """Centres and scales the three channels.

    Arguments:
        mean, deviation: of red, green and blue, on the scale 0..255.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("factor", 1 / torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Returns a new tensor."""
        return (image - self.mean) * self.factor
