"""An append-only file of finished results, one JSON object a line, that survives a crash at any byte.

The first line names the function that the results belong to; every other line is `{"key": ..., "value": ...}`. A line
that a crash has torn can only be the last one, and is cut off when the file is opened again. Nothing else is ever
changed or removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from within.core.errors import WithinError

try:
    import fcntl
except ImportError:  # not on Windows: there nothing keeps two runs off one file
    fcntl = None  # type: ignore[assignment]


class ResultsFile:
    """The open file: `finished` maps keys to values, `append` adds one.

    Use it as a context manager; it is locked against other processes until it is closed.

    Raises:
        WithinError: when the file belongs to another function, is not a results file, is in use by another process, or
            cannot be written.
    """

    def __init__(self, path: str | Path, function: str) -> None:
        self.path = Path(path)
        self.finished: dict[str, Any] = {}
        header = json.dumps({"within_results": 1, "function": function})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise WithinError(f"Could not open the results: {error.strerror}", where=str(path)) from error
        try:
            self._lock()
            self._load(header, function)
        except BaseException:
            self.close()
            raise

    def append(self, key: str, value: Any) -> Any:
        """Writes one finished result and returns it as a later run will read it back.

        Raises:
            WithinError: when the value has no JSON form or the disk is full; results written before stay.
        """
        line = json.dumps({"key": key, "value": value}, default=plain)
        self._write(line + "\n")
        self.finished[key] = json.loads(line)["value"]
        return self.finished[key]

    def close(self) -> None:
        """Flushes the file to the disk and unlocks it."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WithinError(
                "Another run is writing these results", where=str(self.path), todo="wait for it, or use another file"
            ) from error

    def _load(self, header: str, function: str) -> None:
        content = self.path.read_bytes()
        lines = content.split(b"\n")
        whole, torn = lines[:-1], lines[-1]
        if not whole and not header.encode().startswith(torn):
            raise self._foreign("it does not start with the header of one")
        if whole and _parse(whole[-1]) is None and len(whole) > 1:
            torn = whole.pop() + b"\n" + torn
        for number, line in enumerate(whole, start=1):
            entry = _parse(line)
            if number == 1:
                if entry is None or "within_results" not in entry:
                    raise self._foreign("it does not start with the header of one")
                if entry.get("function") != function:
                    raise WithinError(
                        f"These results belong to {entry.get('function')!r}, not to {function!r}",
                        where=str(self.path),
                        todo="use another file",
                    )
            elif entry is None or not {"key", "value"} <= set(entry):
                raise self._foreign(f"line {number} is not a result")
            else:
                self.finished[entry["key"]] = entry["value"]
        if torn:
            os.ftruncate(self._descriptor, len(content) - len(torn))
        if not whole:
            self._write(header + "\n")

    def _foreign(self, why: str) -> WithinError:
        return WithinError(f"This is no results file: {why}", where=str(self.path), todo="use another file")

    def _write(self, line: str) -> None:
        rest = line.encode()
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise WithinError(
                f"Could not write a result: {error.strerror}",
                where=str(self.path),
                todo="free disk space and run again: what is in the file is not computed twice",
            ) from error


def item_key(item: Any, key: Callable[[Any], str] | None = None) -> str:
    """Returns the text that identifies an item in a results file: `key(item)`, or the item's JSON form.

    Raises:
        WithinError: when the item has no JSON form and no `key` is given.
    """
    if key is not None:
        return str(key(item))
    try:
        return json.dumps(item, sort_keys=True, default=plain)
    except (TypeError, ValueError) as error:
        raise WithinError(
            f"An item has no JSON form ({error})",
            where=repr(item)[:200],
            todo="pass key=, a function from item to text",
        ) from error


def plain(value: Any) -> Any:
    """Returns the JSON form of what `json` does not know: arrays, NumPy scalars, paths, dataclasses, sets.

    Raises:
        TypeError: for anything else.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
