"""Builds a network by the name of a variant, such as `swiftnet_rn18`."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from torch import nn

from within.core.errors import WithinError
from within.segmentation.models.variants import VARIANTS, Variant


def names() -> tuple[str, ...]:
    """Returns the names of all variants."""
    return tuple(VARIANTS)


def variant(name: str) -> Variant:
    """Returns what is known of a variant.

    Raises:
        WithinError: when there is none of this name; lists the closest ones.
    """
    found = VARIANTS.get(name)
    if found is None:
        close = difflib.get_close_matches(name, VARIANTS, n=5, cutoff=0.4)
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
