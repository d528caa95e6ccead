"""A plain stack of 3x3 convolutions with optional batch normalisation: the trunk of DnCNN and FFDNet.

conv ReLU (conv [BN] ReLU) x (depth - 2) conv
"""

from __future__ import annotations

import math

from torch import nn


def convolution_stack(
    in_channels: int, out_channels: int, width: int, depth: int, *, batch_norm: bool, bias: bool, inplace: bool
) -> nn.Sequential:
    """Returns `depth` convolutions in one flat Sequential, so that the indices are those of the published files.

    Arguments:
        width: channels between the convolutions.
        depth: number of convolutions, the first and the last included.
        batch_norm: a normalisation after every convolution but the first and the last.
        bias: biases in the convolutions.
        inplace: ReLUs that overwrite their input.
    """
    layers: list[nn.Module] = [_convolution(in_channels, width, bias), nn.ReLU(inplace)]
    for _ in range(depth - 2):
        layers.append(_convolution(width, width, bias))
        if batch_norm:
            layers.append(_batch_norm(width))
        layers.append(nn.ReLU(inplace))
    layers.append(_convolution(width, out_channels, bias))
    return nn.Sequential(*layers)


def _convolution(in_channels: int, out_channels: int, bias: bool) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution


def _batch_norm(width: int) -> nn.BatchNorm2d:
    """The DnCNN authors draw gamma near zero, so that training starts close to the identity x - 0."""
    norm = nn.BatchNorm2d(width)
    nn.init.normal_(norm.weight, std=math.sqrt(2 / (9 * width)))
    norm.weight.data.clamp_(-0.025, 0.025)
    return norm
