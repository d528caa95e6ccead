"""Kernels alone, ready to run in the state in which a whole model would find them.

Before each run the level-2 cache is filled with other data, so that weights come from further away as they do in a
model, and then the main input is written anew, as the kernel before would have written it. Outputs share one buffer, as
in a runtime's arena.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from within.core.device.kernels.aten import AtenModule
from within.core.device.kernels.kernel import Kernel, elements
from within.core.device.kernels.micro_model import micro_model
from within.core.device.kernels.micro_writer import MicroModel
from within.core.device.runtimes import runtime as runtime_named
from within.core.errors import WithinError
from within.core.graph.operator import Shape


@dataclass(frozen=True)
class _Ready:
    """A kernel that can run: `run` runs it once, `refresh` brings the caches into the state it would find."""

    run: Callable[[], object]
    refresh: Callable[[], object]


class KernelBench:
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


def _level_2_bytes() -> int:
    """Returns the size of the level-2 cache of a core, 1 MiB where the system does not tell; at most 8 MiB."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return min(8 << 20, int(text.rstrip("KM")) << (20 if text.endswith("M") else 10))
    except (OSError, ValueError):
        return 1 << 20
