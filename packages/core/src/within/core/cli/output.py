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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from within.core.report import ReportContent

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration in Python.", show_default=False)]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="The run directory, instead of the configured one.")
]
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


def show_run(run: Callable[[], tuple[Path, ReportContent]], as_json: bool) -> None:
    """Carries out what leaves a run directory with a report, and prints its tables and where the page lies.

    Arguments:
        run: returns the run directory and what its report says.
        as_json: print one JSON object instead.
    """
    with standard_output_for_json(as_json):
        folder, content = run()
    from within.core.report import print_report
    from within.core.report.write import PAGE, metrics

    page = (folder / PAGE).resolve()
    if as_json:
        print_json({"run": str(folder), "report": str(page), "metrics": metrics(content)})
        return
    print_report(content, console())
    console().print(f"Report: {page}", soft_wrap=True)


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
