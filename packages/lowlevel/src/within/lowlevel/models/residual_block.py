"""The residual block without batch normalisation of EDSR and MSRResNet, and upsampling by pixel-shuffle.

Lim, Son, Kim, Nah, Lee: Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPRW 2017.
Parameter names are those of the published BasicSR files.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError


class ResidualBlock(nn.Module):
    """x + s * conv(ReLU(conv(x))).

    Arguments:
        residual_scale: s, 0.1 in the large EDSR.
    """

    def __init__(self, width: int, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        residual = self.conv2(self.relu(self.conv1(features)))
        return features + (residual if self.residual_scale == 1 else residual * self.residual_scale)


def shuffle_upsample(width: int, scale: int) -> nn.Sequential:
    """Returns convolutions and pixel-shuffles that enlarge by `scale`: a power of two, in steps of 2, or 3.

    Raises:
        WithinError: for any other factor.
    """
    if scale == 3:
        steps = [3]
    elif scale > 1 and scale & (scale - 1) == 0:
        steps = [2] * (scale.bit_length() - 1)
    else:
        raise WithinError(f"Upscaling by {scale} is not possible here", todo="choose 2, 3, 4 or 8")
    layers: list[nn.Module] = []
    for step in steps:
        layers += [nn.Conv2d(width, width * step**2, 3, padding=1), nn.PixelShuffle(step)]
    return nn.Sequential(*layers)


def scale_down_init(module: nn.Module, factor: float = 0.1) -> None:
    """Draws Kaiming weights times `factor`, and zero biases, for every convolution of `module`."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight)
            child.weight.data.mul_(factor)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
