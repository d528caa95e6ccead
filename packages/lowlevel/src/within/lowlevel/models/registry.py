"""Builds a network by the name of a full variant, such as `imdn_x4`."""

from __future__ import annotations

import torch
from torch import Tensor

from within.core.registry import Registry
from within.lowlevel.models.variants import ALIASES, VARIANTS

REGISTRY = Registry(VARIANTS, ALIASES)
names, variant, build = REGISTRY.names, REGISTRY.variant, REGISTRY.build


def example_inputs(name: str, height: int, width: int, *, batch: int = 1) -> tuple[Tensor, ...]:
    """Returns random inputs of a variant: an image in [0, 1] and, for FFDNet, the noise level 25/255."""
    found = variant(name)
    image = torch.rand(batch, found.channels, height, width)
    return (image, torch.full((batch, 1, 1, 1), 25 / 255)) if "noise_level" in found.inputs else (image,)
