"""A quantised model as plain values: parameters in floating point, and the largest magnitude that each grid covers.

A range `amax` means the symmetric grid with scale amax / (2^(bits-1) - 1) and zero point 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class LayerRanges:
    """Ranges of one layer; None where that tensor is not quantised, or its range is taken anew for every input.

    Attributes:
        input: shape () for one range a tensor.
        weight: shape () or, for one range a channel, one that broadcasts with the weight, such as (outputs, 1, 1, 1).
    """

    input: Float[Tensor, "*ones"] | None
    weight: Float[Tensor, "*channels"] | None

    def scales(self, bits: int = 8) -> tuple[Tensor | None, Tensor | None]:
        """Returns the scales of the input and of the weight, shape () or (channels,); 1 where a range is zero."""
        return _scale(self.input, bits), _scale(self.weight, bits)


@dataclass(frozen=True)
class RangedState:
    """A model's parameters and ranges.

    Attributes:
        parameters: the state dict of the model in floating point, without anything about quantisation.
        layers: ranges by the qualified name of the layer.
        tensors: ranges of quantisers that belong to no layer's input or weight, by their own qualified name.
    """

    parameters: Mapping[str, Tensor]
    layers: Mapping[str, LayerRanges]
    tensors: Mapping[str, Tensor]


def _scale(amax: Tensor | None, bits: int) -> Tensor | None:
    if amax is None:
        return None
    amax = amax.float().reshape(()) if amax.numel() == 1 and amax.dim() == 0 else amax.float().reshape(-1)
    return torch.where(amax > 0, amax / (2 ** (bits - 1) - 1), 1.0)
