"""Configuration files: mmengine `Config` in Python, with errors that name the file."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from within.core.errors import WithinError

if TYPE_CHECKING:
    from mmengine.config import Config


def load_config(path: Path) -> Config:
    """Reads a mmengine configuration in Python.

    Raises:
        WithinError: when the file is missing or does not run, with its error.
    """
    from mmengine.config import Config

    if not path.is_file():
        raise WithinError("There is no such configuration", where=str(path))
    try:
        return Config.fromfile(path)
    except Exception as error:  # it is a Python file: anything can go wrong in it
        raise WithinError(
            f"The configuration does not load ({type(error).__name__}: {error})", where=str(path)
        ) from error


def read_dataclass(kind: type[Any], given: Mapping[str, Any], where: str) -> Any:
    """Returns a frozen dataclass made of a mapping.

    Raises:
        WithinError: naming a key that is unknown or missing.
    """
    known = {attribute.name: attribute for attribute in dataclasses.fields(kind)}
    unknown = [name for name in given if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        raise WithinError(
            f"There is no setting {unknown[0]!r}",
            where=where,
            todo=f"did you mean {close[0]}?" if close else f"choose among {', '.join(known)}",
        )
    missing = [
        name
        for name, attribute in known.items()
        if name not in given
        and attribute.default is dataclasses.MISSING
        and attribute.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise WithinError(f"The setting {missing[0]!r} is missing", where=where)
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
