"""A count by forward hooks on layers, as `thop` 0.0.31 (2019) did it: an independent check of `Macs("thop_2019")`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def thop_count(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Returns the sum over all calls of layers: output elements times (input channels a group x kernel, plus one for a
    bias) for convolutions, two an output element for batch normalisation, output elements times inputs for linear."""
    total = 0

    def count(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.modules.conv._ConvNd):
            kernel = layer.weight[0, 0].numel()
            per_output = layer.in_channels // layer.groups * kernel + (layer.bias is not None)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            per_output = 2
        else:
            assert isinstance(layer, nn.Linear)
            per_output = layer.in_features
        total += output.numel() * per_output

    kinds = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.Linear)
    handles = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        model(*inputs)
    for handle in handles:
        handle.remove()
    return total
