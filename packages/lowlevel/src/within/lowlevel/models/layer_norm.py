"""Layer normalisation over the channels at each pixel, with and without a bias.

Ba, Kiros, Hinton: Layer Normalization, 2016. With bias: (x - mean) / std * w + b. Bias-free, as in
Restormer's denoisers: x / std * w, where the mean is not subtracted either.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """Normalises NCHW features over C.

    Arguments:
        eps: added to the variance.
        bias: False for the bias-free form, which does not subtract the mean either.
    """

    def __init__(self, channels: int, *, eps: float = 1e-6, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        if self.bias is not None:
            last = features.permute(0, 2, 3, 1)
            return F.layer_norm(last, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
        variance = features.var(dim=1, correction=0, keepdim=True)
        return features / torch.sqrt(variance + self.eps) * self.weight[:, None, None]
