"""What goes where: results on standard output, everything else on standard error.

With `--json` standard output holds exactly one JSON object, whatever the libraries underneath print.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
RunDirectory = Annotated[str, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)]


def console() -> Console:
    """Returns the console for results; wide when it is not a terminal, so that tables are not folded in logs."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


@contextlib.contextmanager
def standard_output_for_json(enabled: bool) -> Iterator[None]:
    """While the block runs, sends all that is written to standard output to standard error instead.

    File descriptor 1 is redirected as well as `sys.stdout`, because compiled libraries write to the former.
    """
    if not enabled:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C code has buffered belongs to the block, not to the result
        os.dup2(kept, 1)
        os.close(kept)


def print_json(record: Mapping[str, Any]) -> None:
    """Prints one JSON object on one line. Numbers that JSON lacks (infinity) become strings."""
    print(json.dumps(_plain(record), allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return _plain(value.item()) if hasattr(value, "item") else str(value)
