"""Run every instrument on one network and return the readings side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from within.core.device.inference import evaluating
from within.core.device.memory.cuda import cuda_peak
from within.core.device.memory.graph_executor import GraphExecutor, graph_module, live_graph_measured
from within.core.device.memory.process import Variant, onnxruntime_memory, process_memory
from within.core.device.memory.profiler import allocation_peak
from within.core.device.memory.reading import MemoryReading
from within.core.device.memory.storage import live_eager

VARIANTS: tuple[Variant, ...] = ("eager", "eager, channels_last", "graph", "graph, channels_last")


def read_all(
    model: nn.Module,
    inputs: Sequence[Tensor],
    *,
    onnx_path: str | Path | None = None,
    variants: Sequence[Variant] = VARIANTS,
    default_arena: bool = False,
) -> tuple[MemoryReading, ...]:
    """Measures the peak memory of a network with every instrument.

    Arguments:
        model: the network; its class must be importable by name, for the fresh processes.
        inputs: the input.
        onnx_path: the network in ONNX, when it is exported already; otherwise it is exported for this.
        variants: which ones to run in a fresh process.
        default_arena: also measure ONNX Runtime with its arena and memory pattern on.

    Returns:
        the readings: storage counter (eager, graph), profiler (eager, graph), processes, ONNX Runtime (run 1 and 2),
        and the CUDA allocator where there is a device.

    Raises:
        WithinError: when the network cannot be exported or sent to another process.
    """
    module = graph_module(model, inputs)
    with evaluating(model):
        readings = [
            live_eager(model, inputs),
            live_graph_measured(module, inputs),
            allocation_peak(lambda: model(*inputs)),
            allocation_peak(lambda: GraphExecutor(module).run(*inputs), variant="graph"),
        ]
    readings += [process_memory(model, inputs, variant=variant) for variant in variants]
    with tempfile.TemporaryDirectory() as folder:
        if onnx_path is None:
            from within.core.device.export import export_onnx

            onnx_path = export_onnx(model, tuple(inputs), Path(folder) / "model.onnx", dynamic=False).path
        readings += onnxruntime_memory(onnx_path, inputs)
        if default_arena:
            readings += onnxruntime_memory(onnx_path, inputs, arena=True, memory_pattern=True, return_freed=False)
    if torch.cuda.is_available():
        readings.append(_cuda_reading(model, inputs))
    return tuple(readings)


def _cuda_reading(model: nn.Module, inputs: Sequence[Tensor]) -> MemoryReading:
    import copy

    on_device, device_inputs = copy.deepcopy(model).cuda(), [value.cuda() for value in inputs]
    with evaluating(on_device):
        return cuda_peak(lambda: on_device(*device_inputs))
