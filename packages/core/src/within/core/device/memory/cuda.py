"""The CUDA allocator's high water: bytes of live blocks, with the bytes reserved from the device apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from within.core.device.memory.reading import MemoryReading
from within.core.errors import WithinError


def cuda_peak(function: Callable[[], Any], *, variant: str = "eager") -> MemoryReading:
    """Measures `alloc` on the current CUDA device while `function` runs, without gradients, after one warm-up.

    cuDNN may not choose algorithms by trial: the workspace would depend on which one won.

    Raises:
        WithinError: when there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise WithinError("There is no CUDA device here", todo="use the instruments for the CPU")
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        with torch.no_grad():
            result = function()
            del result
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            result = function()
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
            reserved = torch.cuda.max_memory_reserved()
            del result
    finally:
        torch.backends.cudnn.benchmark = benchmark
    return MemoryReading(f"cuda: {variant}", "alloc", peak, f"reserved in all: {reserved / 2**20:.1f} MiB")
