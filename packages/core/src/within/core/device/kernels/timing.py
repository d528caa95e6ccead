"""Time kernels alone, in the state in which a whole model would find them, on a machine that others use too.

A processor that others use runs now faster, now slower, and all kernels with it; so each sample is related to a
reference kernel run right before and after it:

    t = median over rounds of (sample / reference) * nominal time of the reference
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from within.core.device.kernels.blocks import block_size
from within.core.device.kernels.kernel import Kernel
from within.core.device.kernels.kernel_bench import KernelBench

MINIMUM_ROUNDS, MAXIMUM_ROUNDS = 9, 25
STEADY = 0.02  # a kernel is done when the medians of its even and odd rounds agree within this
_SECONDS_A_KERNEL = 0.6
_KERNELS_BETWEEN_REFERENCES = 4
_REFERENCE_ROUNDS = 60
_BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class KernelTime:
    """A measured time.

    Attributes:
        milliseconds: the median, at the nominal speed of the reference.
        spread: half the interquartile range, in milliseconds.
        repeats: how many runs it comes from.
    """

    milliseconds: float
    spread: float
    repeats: int


def reference_kernel(runtime: str) -> Kernel:
    """Returns the kernel that all others of a runtime are related to: a 3x3 convolution, 64 to 64 channels, 28x28."""
    shape, weight = (1, 64, 28, 28), (64, 64, 3, 3)
    if runtime == "onnxruntime":
        settings = (("dilation", (1, 1)), ("groups", 1), ("padding", (1, 1, 1, 1)), ("stride", (1, 1)))
        return Kernel("conv", "blocked" if block_size() > 1 else "plain", (shape,), (weight,), (shape,), settings)
    numbers = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "bias": None}
    arguments = {"input": {"tensor": 0}, "weight": {"tensor": 1}, **numbers}
    call = json.dumps({"target": "aten.conv2d.default", "arguments": arguments}, sort_keys=True)
    layout: Any = "channels_last" if runtime == "torch_channels_last" else "plain"
    return Kernel("aten", layout, (shape,), (weight,), (shape,), (("call", call),))


def time_reference(runtime: str, threads: int = 1) -> KernelTime:
    """Measures the reference kernel: its nominal time."""
    bench = KernelBench([reference_kernel(runtime)], runtime, threads)
    samples = np.array([bench.time(0) for _ in range(_REFERENCE_ROUNDS + 3)][3:])
    return _kernel_time(samples)


def time_kernels(
    kernels: Sequence[Kernel], runtime: str, threads: int = 1, *, nominal: float | None = None
) -> dict[Kernel, KernelTime]:
    """Times kernels against each other, in rounds.

    Arguments:
        kernels: a batch; all are in memory at once.
        runtime: one of `timed_runtimes()`.
        threads: of one operator. With one, CPU time of the thread is measured, with more the elapsed time.
        nominal: milliseconds of the reference kernel that the result is stated for; by default what it takes now.

    Raises:
        WithinError: when a kernel cannot be built or run.
    """
    unique = list(dict.fromkeys(kernels))
    bench = KernelBench([reference_kernel(runtime), *unique], runtime, threads)
    samples: list[list[float]] = [[] for _ in unique]
    live = list(range(len(unique)))
    for position in live:
        bench.time(position + 1)  # the first run allocates
    unit = bench.reference() if nominal is None else nominal
    for turn in range(MAXIMUM_ROUNDS):
        before = bench.reference()
        for start in range(0, len(live), _KERNELS_BETWEEN_REFERENCES):
            group = live[start : start + _KERNELS_BETWEEN_REFERENCES]
            times = [bench.time(position + 1) for position in group]
            after = bench.reference()
            for position, time_ in zip(group, times, strict=True):
                samples[position].append(time_ / (before + after) * 2 * unit)
            before = after
        if turn + 1 >= MINIMUM_ROUNDS:
            live = [position for position in live if not _done(samples[position])]
        if not live:
            break
    return {kernel: _kernel_time(np.array(found)) for kernel, found in zip(unique, samples, strict=True)}


@dataclass(frozen=True)
class ModelTime:
    """The time of a whole model.

    Attributes:
        milliseconds: median over the rounds, at the nominal speed of the reference kernel.
        interval: 95 % bootstrap interval of it.
        samples: milliseconds of each round, related to the reference right before and after.
    """

    milliseconds: float
    interval: tuple[float, float]
    samples: tuple[float, ...]

    @staticmethod
    def of(samples: Sequence[float], seed: int = 0) -> ModelTime:
        """Returns the median of samples with its interval; `seed` is that of the bootstrap."""
        values = np.asarray(samples)
        picks = np.random.default_rng(seed).integers(0, len(values), (_BOOTSTRAP_SAMPLES, len(values)))
        low, high = np.quantile(np.median(values[picks], axis=1), [0.025, 0.975])
        return ModelTime(float(np.median(values)), (float(low), float(high)), tuple(values.tolist()))


def time_models(
    runs: Mapping[str, Callable[[], object]],
    runtime: str,
    threads: int = 1,
    *,
    nominal: float,
    repeats: int = 30,
    warmup: int = 3,
    seed: int = 0,
) -> dict[str, ModelTime]:
    """Times whole models in rounds, each in a new order, with the reference kernel before and after each.

    Arguments:
        runs: a function without arguments for each model, by name.
        runtime, threads, nominal: as for `time_kernels`.
        repeats: rounds that count.
        warmup: rounds that do not.
        seed: of the orders and of the bootstrap.
    """
    bench = KernelBench([reference_kernel(runtime)], runtime, threads)
    generator = np.random.default_rng(seed)
    names = list(runs)
    samples = np.zeros((repeats, len(names)))
    for turn in range(-warmup, repeats):
        around = [bench.reference()]
        times = []
        order = generator.permutation(len(names))
        for position in order:
            start = bench.clock()
            runs[names[position]]()
            times.append((bench.clock() - start) * 1e3)
            around.append(bench.reference())
        if turn >= 0:
            samples[turn, order] = np.array(times) / np.add(around[:-1], around[1:]) * 2 * nominal
    return {name: ModelTime.of(column.tolist(), seed) for name, column in zip(names, samples.T, strict=True)}


def _kernel_time(samples: NDArray[np.float64]) -> KernelTime:
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return KernelTime(float(middle), float(high - low) / 2, len(samples))


def _done(samples: Sequence[float]) -> bool:
    even, odd = np.median(samples[0::2]), np.median(samples[1::2])
    return bool(abs(even - odd) <= STEADY * (even + odd) / 2) or sum(samples) / 1e3 > _SECONDS_A_KERNEL
