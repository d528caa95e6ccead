"""Entries and tables of files that others wrote, or an error that says which is missing or has another shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError


def entry(mapping: Any, key: str, where: str | None) -> Any:
    """Returns an entry of a dictionary.

    Raises:
        WithinError: when it is missing, or the mapping is no dictionary.
    """
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise WithinError(f"There is no {key!r}", where=where, todo="make or download the file again")
    return mapping[key]


def table(values: Any, shape: tuple[int, ...], what: str, where: str | None) -> NDArray[np.float64]:
    """Returns numbers, nested or in an array, as an array of this shape; nothing at all is a table of no rows.

    Raises:
        WithinError: when they are no numbers, or have another shape.
    """
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WithinError(f"{what} is no table of numbers ({error})", where=where) from None
    if found.size == 0 and shape[0] == 0:
        return np.zeros(shape)
    if found.shape != shape:
        raise WithinError(f"{what} has the shape {found.shape}, not {shape}", where=where)
    return found
