"""Instrument (b): the allocator's high water, from the memory events of the PyTorch profiler.

The running sum of the sizes in time order starts at zero, so weights and input are outside. It sees what goes through
PyTorch's CPU allocator: tensors, and the reordered copies and scratch buffers of oneDNN that no tensor shows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from within.core.device.memory.reading import MemoryReading


def allocation_events(function: Callable[[], Any]) -> list[int]:
    """Runs `function` without gradients; returns the bytes of every allocation (+) and release (-) in time order."""
    with _no_chatter():
        profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        with torch.no_grad(), profiler:
            result = function()
    kineto = profiler.profiler
    results: Any = kineto.kineto_results if kineto is not None else None  # its events are typed without their sizes
    events = [
        (event.start_ns(), order, event.nbytes())
        for order, event in enumerate(results.events())
        if event.name() == "[memory]" and event.device_type() == torch.autograd.DeviceType.CPU
    ]
    del result
    return [size for _, _, size in sorted(events)]


def allocation_peak(function: Callable[[], Any], *, variant: str = "eager") -> MemoryReading:
    """Measures `alloc`: the high water of PyTorch's CPU allocator while `function` runs, without gradients.

    Arguments:
        function: runs the network once; its result counts.
        variant: what it runs, for the name of the reading.
    """
    live = peak = 0
    for size in allocation_events(function):
        live += size
        peak = max(peak, live)
    return MemoryReading(f"profiler: {variant}", "alloc", peak)


@contextmanager
def _no_chatter() -> Iterator[None]:
    """Keeps the profiler's C++ library from printing its start and stop on standard error."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
