"""Progress bars on a terminal, silence elsewhere, so that logs and `--json` output stay clean."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def bar() -> Progress:
    """Returns a rich progress display on standard error, disabled when that is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yields the items of `iterable` while a bar shows how far it is."""
    if total is None and isinstance(iterable, Sequence):
        total = len(iterable)
    with bar() as display:
        task = display.add_task(description, total=total)
        for item in iterable:
            yield item
            display.advance(task)
