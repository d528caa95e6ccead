"""HiGHS prints a line now and then even when it is told not to; standard output belongs to the caller.

`within ... --json` promises one JSON object and nothing else there, so the file descriptor itself is turned away for
the time of a solve: what native code prints does not pass through `sys.stdout`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_standard_output() -> Iterator[None]:
    """Sends what native code prints on standard output nowhere until the block ends."""
    try:
        saved = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    if sys.stdout is not None:
        sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        _flush()  # what was printed before still goes where it should
        os.dup2(nowhere, 1)
        yield
    finally:
        _flush()
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def _flush() -> None:
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
