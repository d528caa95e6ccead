"""Builds a network by the name of a full variant, such as `imdn_x4`."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from within.core.errors import WithinError
from within.lowlevel.models.variants import ALIASES, VARIANTS, Variant


def names() -> tuple[str, ...]:
    """Returns the names of all variants, without the aliases."""
    return tuple(VARIANTS)


def variant(name: str) -> Variant:
    """Returns what is known of a variant: its task, channels, scale and published counts.

    Raises:
        WithinError: when there is none of this name; lists the closest ones.
    """
    found = VARIANTS.get(ALIASES.get(name, name))
    if found is None:
        close = difflib.get_close_matches(name, [*VARIANTS, *ALIASES], n=5, cutoff=0.4)
        raise WithinError(
            f"There is no network named {name!r}",
            todo=f"did you mean {', '.join(close)}?" if close else f"choose one of {', '.join(VARIANTS)}",
        )
    return found


def build(name: str, **overrides: Any) -> nn.Module:
    """Returns a freshly initialised network.

    Arguments:
        name: a variant, see `names()`.
        overrides: arguments of the network's constructor that replace those of the variant.

    Raises:
        WithinError: for an unknown name, or an override that the constructor does not have.
    """
    found = variant(name)
    accepted = list(inspect.signature(found.network).parameters)
    unknown = sorted(set(overrides) - set(accepted))
    if unknown:
        raise WithinError(
            f"{found.network.__name__} has no argument {', '.join(unknown)}",
            where=name,
            todo=f"choose among {', '.join(accepted)}",
        )
    return found.network(**{**found.arguments, **overrides})


def example_inputs(name: str, height: int, width: int, *, batch: int = 1) -> tuple[Tensor, ...]:
    """Returns random inputs of a variant: an image in [0, 1] and, for FFDNet, the noise level 25/255."""
    found = variant(name)
    image = torch.rand(batch, found.channels, height, width)
    return (image, torch.full((batch, 1, 1, 1), 25 / 255)) if "noise_level" in found.inputs else (image,)
