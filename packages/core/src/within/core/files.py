"""Files that are either whole or absent: write beside the target, flush to disk, then rename."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from within.core.errors import WithinError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends without an error.

    Raises:
        WithinError: when the folder cannot be written or the disk is full. The old file, if any, is left as it was.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise WithinError(
            f"Could not write the file: {error.strerror or error}",
            where=str(target),
            todo="free disk space or choose another folder; what was there before is untouched",
        ) from error
    finally:
        with suppress(OSError):  # the folder itself may be a file
            temporary.unlink()


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        WithinError: when the file is missing or is not JSON, with the line of the fault.
    """
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise WithinError(f"Could not read the file: {error.strerror or error}", where=str(path)) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WithinError(f"The file is not valid JSON: {error}", where=str(path)) from error


def new_run_directory(path: str | Path, *, resume: bool = False) -> Path:
    """Creates a run directory.

    Raises:
        WithinError: when it exists and holds files, unless `resume`.
    """
    folder = Path(path)
    if folder.is_file():
        raise WithinError("The run directory is a file", where=str(folder), todo="choose another path")
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        raise WithinError(
            "The run directory exists and is not empty",
            where=str(folder),
            todo="choose another path, pass --resume to continue it, or remove it yourself",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WithinError(f"Could not create the run directory: {error.strerror}", where=str(folder)) from error
    return folder
