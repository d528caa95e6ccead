"""Builds a network by the name of a full variant, such as `imdn_x4`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from within.core.registry import construct, find_by_name
from within.lowlevel.models.variants import ALIASES, VARIANTS, Variant


def names() -> tuple[str, ...]:
    """Returns the names of all variants, without the aliases."""
    return tuple(VARIANTS)


def variant(name: str) -> Variant:
    """Returns what is known of a variant: its task, channels, scale and published counts.

    Raises:
        WithinError: when there is none of this name; lists the closest ones.
    """
    return find_by_name(VARIANTS, name, ALIASES)


def build(name: str, **overrides: Any) -> nn.Module:
    """Returns a freshly initialised network.

    Arguments:
        name: a variant, see `names()`.
        overrides: arguments of the network's constructor that replace those of the variant.

    Raises:
        WithinError: for an unknown name, or an override that the constructor does not have.
    """
    found = variant(name)
    return construct(found.network, found.arguments, overrides, where=name)


def example_inputs(name: str, height: int, width: int, *, batch: int = 1) -> tuple[Tensor, ...]:
    """Returns random inputs of a variant: an image in [0, 1] and, for FFDNet, the noise level 25/255."""
    found = variant(name)
    image = torch.rand(batch, found.channels, height, width)
    return (image, torch.full((batch, 1, 1, 1), 25 / 255)) if "noise_level" in found.inputs else (image,)
