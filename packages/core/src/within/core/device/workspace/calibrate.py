"""Measure the workspace of single operators on a backend and make a table of it.

Each operator runs alone in a fresh process that returns freed memory at once: the profiler's high water and the rise of
the resident set, both less the bytes of the output. (The input exists before and is not in either.) The kernel counts
resident pages in batches; where the two agree within that resolution, the allocator's exact figure stands for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace

import torch

from within.core.device.memory.cuda import cuda_peak
from within.core.device.memory.process import measure_operators
from within.core.device.workspace.operator_key import OperatorKey
from within.core.device.workspace.single_operator import single_operator
from within.core.device.workspace.table import Measured, WorkspaceTable, fit_rules, host_description
from within.core.errors import WithinError
from within.core.progress import track

_CHUNK = 40
_RESOLUTION = 3 * 2**17  # bytes (384 KiB) within which resident memory cannot be told from allocated memory


def calibrate_workspace(
    backend: str = "torch_cpu",
    *,
    keys: Iterable[OperatorKey] | None = None,
    table: WorkspaceTable | None = None,
) -> WorkspaceTable:
    """Measures operators and returns a table.

    Arguments:
        backend: `torch_cpu`, or `torch_cuda` (there both definitions hold the allocator's figure).
        keys: what to measure; by default the grid `default_keys()`.
        table: an earlier table of the same backend and host; its entries are kept and not measured again.

    Raises:
        WithinError: for an unknown backend, or one without a device here.
    """
    wanted = list(dict.fromkeys(default_keys() if keys is None else keys))
    known = {} if table is None else dict(table.entries)
    missing = [key for key in wanted if key not in known]
    if backend == "torch_cpu":
        measured: dict[OperatorKey, Measured] = {}
        chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
        for chunk in track(chunks, "measuring operators"):
            results = measure_operators([asdict(key) for key in chunk])
            measured.update({key: _denoised(*result) for key, result in zip(chunk, results, strict=True)})
    elif backend == "torch_cuda":
        measured = {key: _on_cuda(key) for key in track(missing, "measuring operators")}
    else:
        raise WithinError(f"There is no backend named {backend!r}", todo="choose torch_cpu or torch_cuda")
    entries = {**known, **measured}
    return WorkspaceTable(backend, host_description(), entries, fit_rules(entries))


def default_keys() -> list[OperatorKey]:
    """Returns the grid that the packaged table was measured on, in both memory formats."""
    keys = []
    for size in (64, 128, 256):
        for channels in (16, 32, 48, 64, 96):
            keys.append(_convolution(channels, channels, size))
    for before, after in (
        *((1, 64), (3, 32), (3, 48), (3, 64), (4, 16), (8, 32), (12, 32), (15, 32), (64, 1), (64, 3), (32, 3), (16, 4)),
        *((20, 24), (37, 41), (40, 64), (48, 64), (64, 48), (64, 24), (96, 99), (99, 64), (144, 96), (64, 128)),
        *((128, 64), (53, 53), (28, 61), (64, 12), (64, 16), (64, 32), (24, 60)),
    ):
        keys.append(_convolution(before, after, 160))
    keys += [_convolution(256, 256, 32), _convolution(512, 512, 16), _convolution(128, 128, 65)]
    keys += [_convolution(channels, channels, 128, kernel=5) for channels in (16, 32, 41)]
    keys += [_convolution(3, 64, 160, kernel=9), _convolution(3, 64, 160, kernel=7, stride=2)]
    for before, after in ((3, 32), (16, 64), (64, 128), (20, 40), (37, 41)):
        keys.append(_convolution(before, after, 160, stride=2))
        keys.append(_convolution(before, after, 160, kernel=1))
        keys.append(_convolution(before, after, 160, kernel=1, stride=2))
    keys += [_convolution(384, 64, 64, kernel=1), _convolution(64, 16, 160, kernel=1)]
    for channels in (16, 20, 32, 37, 64, 128):
        for kernel, stride in ((3, 1), (5, 1), (5, 2), (3, 2)):
            keys.append(_convolution(channels, channels, 160, kernel=kernel, stride=stride, groups=channels))
    for before, after, groups in ((64, 64, 4), (48, 48, 4), (48, 48, 3), (128, 64, 4)):
        keys.append(_convolution(before, after, 160, groups=groups))
    keys.append(_convolution(64, 64, 160, kernel=1, groups=4))
    for before, after in ((48, 48), (96, 96), (64, 32), (37, 41), (32, 16), (64, 64), (256, 128)):
        for kernel in (2, 3, 4):
            keys.append(_transposed(before, after, 64, kernel))
    keys += [_transposed(96, 96, size, 3) for size in (32, 128)]
    for kind in ("max_pool", "average_pool"):
        keys += [_resampled(kind, 64, size, size // 2) for size in (128, 256)]
    for kind in ("nearest", "bilinear", "bicubic"):
        keys.append(_resampled(kind, 64, 96, 192))
    for kind in ("batch_norm", "instance_norm", "group_norm"):
        keys += [_resampled(kind, 64, size, size) for size in (128, 256)]
    keys.append(replace(_resampled("pixel_shuffle", 64, 96, 192), out_channels=16))
    keys.append(replace(_resampled("pixel_unshuffle", 16, 192, 96), out_channels=64))
    both = keys + [replace(key, layout="channels_last") for key in keys]
    for before, after, kernel in ((48, 64, 3), (37, 41, 3), (48, 16, 3), (48, 64, 1), (37, 41, 1)):
        both.append(replace(_convolution(before, after, 160, kernel=kernel), layout="channels_last_view"))
    both += [OperatorKey("linear", "nchw", 4096, before, after, 1, 1, 1, 1) for before, after in ((64, 256), (37, 41))]
    both.append(OperatorKey("layer_norm", "nchw", 16384, 64, 64, 1, 1, 1, 1))
    return both


def _convolution(
    before: int, after: int, size: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
) -> OperatorKey:
    out = (size + 2 * (kernel // 2) - kernel) // stride + 1
    shape = (1, before, after, size, size, out, out)
    return OperatorKey("convolution", "nchw", *shape, (kernel, kernel), (stride, stride), groups)


def _transposed(before: int, after: int, size: int, kernel: int) -> OperatorKey:
    shape = (1, before, after, size, size, 2 * size, 2 * size)
    return OperatorKey("transposed_convolution", "nchw", *shape, (kernel, kernel), (2, 2))


def _resampled(kind: str, channels: int, size: int, out: int) -> OperatorKey:
    window = (2, 2) if "pool" in kind else (1, 1)
    return OperatorKey(kind, "nchw", 1, channels, channels, size, size, out, out, window, window)


def _denoised(alloc: int, rss: int) -> Measured:
    return Measured(alloc, alloc if abs(alloc - rss) <= _RESOLUTION else rss)


def _on_cuda(key: OperatorKey) -> Measured:
    if not torch.cuda.is_available():
        raise WithinError("There is no CUDA device here", todo="calibrate the backend torch_cpu")
    with torch.device("cuda"):
        extra = max(0, cuda_peak(single_operator(key)).bytes - key.output_bytes)
    return Measured(extra, extra)
