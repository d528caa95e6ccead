"""Builds a point network by the name of a variant, such as `pvcnn_s3dis_c0p125`."""

from __future__ import annotations

from typing import Any

from torch import nn

from within.core.registry import construct, find_by_name
from within.perception3d.pvcnn.variants import VARIANTS, Variant


def names() -> tuple[str, ...]:
    """Returns the names of all variants."""
    return tuple(VARIANTS)


def variant(name: str) -> Variant:
    """Returns what is known of a variant.

    Raises:
        WithinError: when there is none of this name; lists the closest ones.
    """
    return find_by_name(VARIANTS, name)


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
