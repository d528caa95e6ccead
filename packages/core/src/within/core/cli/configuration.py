"""Configuration files: mmengine `Config` in Python, with errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
