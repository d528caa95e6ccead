"""Time kernels alone, in the state in which a whole model would find them, on a machine that others use too.

Before each run the level-2 cache is filled with other data, so that weights come from further away as they do in a
model, and then the main input is written anew, as the kernel before would have written it. Outputs share one buffer, as
in a runtime's arena. A processor that others use runs now faster, now slower, and all kernels with it; so each sample
is related to a reference kernel run right before and after it:

    t = median over rounds of (sample / reference) * nominal time of the reference
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from within.core.device.kernels.aten import AtenModule
from within.core.device.kernels.blocks import block_size
from within.core.device.kernels.kernel import Kernel, elements
from within.core.device.kernels.micro_model import micro_model
from within.core.device.kernels.micro_writer import MicroModel
from within.core.device.runtimes import runtime as runtime_named
from within.core.errors import WithinError
from within.core.graph.operator import Shape

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


@dataclass(frozen=True)
class _Ready:
    """A kernel that can run: `run` runs it once, `refresh` brings the caches into the state it would find."""

    run: Callable[[], object]
    refresh: Callable[[], object]


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
    bench = _Bench([reference_kernel(runtime)], runtime, threads)
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
    bench = _Bench([reference_kernel(runtime), *unique], runtime, threads)
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
    bench = _Bench([reference_kernel(runtime)], runtime, threads)
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
    picks = generator.integers(0, repeats, (_BOOTSTRAP_SAMPLES, repeats))
    found = {}
    for name, column in zip(names, samples.T, strict=True):
        low, high = np.quantile(np.median(column[picks], axis=1), [0.025, 0.975])
        found[name] = ModelTime(float(np.median(column)), (float(low), float(high)), tuple(column.tolist()))
    return found


class _Bench:
    """Kernels ready to run, with the buffers that they share."""

    def __init__(self, kernels: Sequence[Kernel], runtime: str, threads: int) -> None:
        self.threads = threads
        self.clock = time.thread_time if threads == 1 else time.perf_counter
        self.evicting = np.zeros(2 * _level_2_bytes() // 4, np.float32)
        largest = max(
            [sum(map(elements, shapes)) for kernel in kernels for shapes in (kernel.inputs, kernel.outputs)], default=1
        )
        generator = np.random.default_rng(0)
        self.source = generator.random(largest, np.float32) - np.float32(0.5)
        self.pools = [self.source.copy() for _ in range(2)]
        prepare = self._onnxruntime if runtime == "onnxruntime" else self._torch
        self.ready = [prepare(kernel, position % 2) for position, kernel in enumerate(kernels)]

    def time(self, position: int) -> float:
        """Runs one kernel and returns the milliseconds it took."""
        ready = self.ready[position]
        self.evicting.fill(1.0)
        ready.refresh()
        start = self.clock()
        ready.run()
        return (self.clock() - start) * 1e3

    def reference(self) -> float:
        """Returns the milliseconds of the first kernel, after a run that brings back what others drove out."""
        self.time(0)
        return (self.time(0) + self.time(0)) / 2

    def _onnxruntime(self, kernel: Kernel, side: int) -> _Ready:
        model = micro_model(kernel)
        if kernel.kind == "session":
            return self._session(kernel, model)
        session = _load(model, kernel, self.threads)
        binding = session.io_binding()
        held: list[NDArray[np.float32]] = []

        def bind(method: Callable[..., None], name: str, shape: Shape, array: NDArray[np.float32]) -> None:
            held.append(array)  # the binding knows the address alone
            method(name, "cpu", 0, np.float32, shape, array.ctypes.data)

        results, start = {}, 0
        for name, shape in model.outputs:
            results[name] = self.pools[1 - side][start : start + elements(shape)]
            start += elements(shape)
            bind(binding.bind_output, name, shape, results[name])
        main = self.pools[side][: elements(model.activations[0][1])] if model.activations else self.pools[side][:0]
        for position, (name, shape) in enumerate(model.activations):
            if position == 0:
                array = main
            elif name == model.adds_to:
                array = next(iter(results.values()))
            else:
                array = self.source[: elements(shape)].copy()
            bind(binding.bind_input, name, shape, array)
        for name, shape in model.weights:
            bind(binding.bind_input, name, shape, np.full(elements(shape), 0.01, np.float32))
        fresh = self.source[: main.size]

        def run(_keep: object = held) -> None:
            session.run_with_iobinding(binding)

        return _Ready(run, lambda: np.copyto(main, fresh))

    def _session(self, kernel: Kernel, model: MicroModel) -> _Ready:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "session.onnx"
            path.write_bytes(model.onnx)
            session = runtime_named("onnxruntime", threads=self.threads, optimization="none").load(path)
        inputs = [torch.zeros(shape) for shape in kernel.inputs]
        return _Ready(lambda: session.run(inputs), lambda: None)

    def _torch(self, kernel: Kernel, side: int) -> _Ready:
        layout = torch.channels_last if kernel.layout == "channels_last" else torch.contiguous_format

        def tensor(shape: Shape) -> torch.Tensor:
            value = torch.rand(shape) - 0.5
            return value.to(memory_format=layout) if value.ndim == 4 else value

        inputs = [tensor(shape) for shape in kernel.inputs]
        if kernel.kind == "reshape":
            return _Ready(lambda: inputs[0].view(-1), lambda: None)
        module = AtenModule(kernel)
        if layout is torch.channels_last:
            module = module.to(memory_format=layout)  # type: ignore[call-overload]
        fresh = inputs[0].clone(memory_format=torch.preserve_format)

        def run() -> None:
            if torch.get_num_threads() != self.threads:
                torch.set_num_threads(self.threads)
            with torch.no_grad():
                module(*inputs)

        try:
            run()
        except Exception as error:
            raise _cannot_run(kernel, error) from error
        return _Ready(run, lambda: inputs[0].copy_(fresh))


def _load(model: MicroModel, kernel: Kernel, threads: int) -> Any:
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if model.optimise else levels.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for every status code
        raise _cannot_run(kernel, error) from error


def _cannot_run(kernel: Kernel, error: BaseException) -> WithinError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return WithinError(f"A kernel cannot be timed: {first[:300]}", where=kernel.key[:300])


def _kernel_time(samples: NDArray[np.float64]) -> KernelTime:
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return KernelTime(float(middle), float(high - low) / 2, len(samples))


def _done(samples: Sequence[float]) -> bool:
    even, odd = np.median(samples[0::2]), np.median(samples[1::2])
    return bool(abs(even - odd) <= STEADY * (even + odd) / 2) or sum(samples) / 1e3 > _SECONDS_A_KERNEL


def _level_2_bytes() -> int:
    """Returns the size of the level-2 cache of a core, 1 MiB where the system does not tell; at most 8 MiB."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return min(8 << 20, int(text.rstrip("KM")) << (20 if text.endswith("M") else 10))
    except (OSError, ValueError):
        return 1 << 20
