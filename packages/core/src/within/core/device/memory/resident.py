"""Instrument (c), inside one process: the resident set at its highest, less what was resident before.

Linux keeps the high-water mark `VmHWM`; writing 5 to /proc/self/clear_refs sets it back to the present `VmRSS`
(proc(5)). Elsewhere, or where that file is closed, `ru_maxrss` serves: it never goes down, so it is an upper bound
unless the run itself raised it. The kernel keeps the resident count in batches per processor: readings are good to
about 0.25 MiB on two cores.
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class ResidentPeak:
    """Resident memory of one run, in bytes.

    Attributes:
        bytes: high water less the resident size before the run.
        left: what stayed resident after the run, with its result released.
        method: `clear_refs`; or `ru_maxrss`, with ` (upper bound)` when something before the run was larger.
    """

    bytes: int
    left: int
    method: str


def resident_peak(function: Callable[[], Any]) -> ResidentPeak:
    """Runs `function` and measures how far the resident memory of this process rose; the result counts."""
    gc.collect()
    if _reset_high_water():
        before = _status("VmRSS")
        result = function()
        peak = _status("VmHWM") - before
        del result
        gc.collect()
        return ResidentPeak(max(peak, 0), _status("VmRSS") - before, "clear_refs")
    before, highest = psutil.Process().memory_info().rss, _largest_resident()
    result = function()
    peak = _largest_resident()
    del result
    gc.collect()
    method = "ru_maxrss" if peak > highest else "ru_maxrss (upper bound)"
    return ResidentPeak(max(peak - before, 0), psutil.Process().memory_info().rss - before, method)


def _reset_high_water() -> bool:
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no field {field}")


def _largest_resident() -> int:
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # macOS counts bytes, Linux KiB
