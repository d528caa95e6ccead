"""DCE-Net, which brightens an image by curves that it estimates for each pixel.

Guo, Li, Guo, Loy, Hou, Kwong, Cong: Zero-Reference Deep Curve Estimation for Low-Light Image Enhancement, CVPR 2020.
Eight times, for each pixel and colour:  x <- x + r * (x^2 - x).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class DCENet(nn.Module):
    """Seven 3x3 convolutions with concatenated skips (3, 4), (2, 5), (1, 6).

    Arguments:
        width: hidden channels.
        iterations: curves applied one after the other.
    """

    scale = 1
    size_multiple = 1

    def __init__(self, width: int = 32, iterations: int = 8) -> None:
        super().__init__()
        self.iterations = iterations
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.conv4 = nn.Conv2d(width, width, 3, padding=1)
        self.conv5 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.conv6 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.conv7 = nn.Conv2d(2 * width, 3 * iterations, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        for module in self.children():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Returns the brightened image; images are in [0, 1]."""
        return apply_curves(image, self.curves(image))

    def curves(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch curves height width"]:
        """Returns the curve parameters r in [-1, 1], three channels for each iteration (losses need them)."""
        features1 = self.relu(self.conv1(image))
        features2 = self.relu(self.conv2(features1))
        features3 = self.relu(self.conv3(features2))
        features4 = self.relu(self.conv4(features3))
        features5 = self.relu(self.conv5(torch.cat((features3, features4), dim=1)))
        features6 = self.relu(self.conv6(torch.cat((features2, features5), dim=1)))
        return torch.tanh(self.conv7(torch.cat((features1, features6), dim=1)))


def apply_curves(
    image: Float[Tensor, "batch 3 height width"], curves: Float[Tensor, "batch curves height width"]
) -> Float[Tensor, "batch 3 height width"]:
    """Returns `image` after all its curves."""
    for curve in curves.split(3, dim=1):
        image = image + curve * (image.square() - image)
    return image
