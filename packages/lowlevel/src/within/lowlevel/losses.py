"""Losses of image restoration, each as its paper defines it; by name for configurations.

A loss maps (prediction, target), both (batch, channels, height, width), to a scalar. Networks that predict the noise
are compared through the image they leave: R(y) - n and (y - R(y)) - x differ in sign only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from within.core.errors import WithinError

Image = Float[Tensor, "batch channels height width"]
Loss = Callable[[Image, Image], Tensor]


def l1(prediction: Image, target: Image) -> Float[Tensor, ""]:
    """Mean |p - t|: EDSR, IMDN, CARN and most networks for super-resolution."""
    return F.l1_loss(prediction, target)


def mse(prediction: Image, target: Image) -> Float[Tensor, ""]:
    """Mean (p - t)^2."""
    return F.mse_loss(prediction, target)


def half_sum_of_squares(prediction: Image, target: Image) -> Float[Tensor, ""]:
    """sum (p - t)^2 / 2N with N images: DnCNN (Zhang et al., TIP 2017, eq. 1). A sum over pixels, not a mean."""
    return (prediction - target).square().sum() / (2 * len(prediction))


def charbonnier(prediction: Image, target: Image, *, epsilon: float = 1e-3) -> Float[Tensor, ""]:
    """Mean sqrt((p - t)^2 + epsilon^2), a smooth L1 (Charbonnier et al., ICIP 1994; Lai et al., LapSRN, CVPR 2017)."""
    return ((prediction - target).square() + epsilon**2).sqrt().mean()


def negative_psnr(prediction: Image, target: Image) -> Float[Tensor, ""]:
    """Mean over the images of 10 log10(MSE + 1e-8) = -PSNR for a peak of 1: HINet and NAFNet."""
    errors = (prediction - target).square().mean(dim=(1, 2, 3))
    return 10 / math.log(10) * torch.log(errors + 1e-8).mean()


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "l1": l1,
    "mse": mse,
    "half_sum_of_squares": half_sum_of_squares,
    "charbonnier": charbonnier,
    "negative_psnr": negative_psnr,
}


def build_loss(type: str, *, weight: float = 1.0, **arguments: Any) -> Loss:
    """Returns a loss by name.

    Arguments:
        type: one of `LOSSES`.
        weight: factor on it.
        arguments: its keyword arguments.

    Raises:
        WithinError: when there is none of that name; and from the loss, when the two shapes differ, which torch would
            stretch to one another.
    """
    if type not in LOSSES:
        raise WithinError(f"There is no loss named {type!r}", todo=f"choose one of {', '.join(LOSSES)}")
    function = partial(LOSSES[type], **arguments)

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        if prediction.shape != target.shape:
            raise WithinError(
                f"The network returns {tuple(prediction.shape)}, the target is {tuple(target.shape)}",
                where=f"loss {type}",
                todo="check the number of channels and the scale of the network and of the data",
            )
        value: Tensor = function(prediction, target)
        return value if weight == 1 else weight * value

    return loss
