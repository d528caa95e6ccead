"""Instruments (c) and (d): resident memory of a fresh process that runs a model in PyTorch or in ONNX Runtime.

A process that has run other things has free blocks in its heap that a run can take without growing; so each figure
comes from a new process that holds nothing but the model and its input. There, freed tensors go back to the system at
once (see `allocator`), unless asked for glibc's defaults, and transparent huge pages are off. What a reading contains:
  - the live tensors of the run and the workspace of its operators: physical, the same in every run;
  - in the first run also what the libraries make once: oneDNN's generated code and its tables. Reported in the note.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from within.core.device.memory.reading import MemoryReading
from within.core.errors import WithinError

Variant = Literal["eager", "eager, channels_last", "graph", "graph, channels_last"]


def process_memory(
    model: nn.Module | ExportedProgram | str,
    inputs: Sequence[Tensor],
    *,
    variant: Variant = "eager",
    arguments: Mapping[str, Any] | None = None,
    return_freed: bool = True,
    runs: int = 3,
    threads: int = 1,
) -> MemoryReading:
    """Measures `rss` of a run in PyTorch, in a fresh process.

    Arguments:
        model: a factory named as `package.module:function`; or a module whose class can be imported by name; or an
            exported program (graph variants only).
        inputs: the input.
        variant: the model's own forward (`eager`) or the executor that frees at last use (`graph`), in the default
            memory format or in channels_last.
        arguments: of the factory; plain JSON values.
        return_freed: make the C library return freed tensors at once. Without it the figure depends on the history
            of the heap, as in a process with glibc's defaults.
        runs: how often to run. The reading is the median of all runs after the first; without `return_freed` it is
            the first run, since what that one left in the heap is no part of a later run's rise.
        threads: of one operator.

    Raises:
        WithinError: when the model cannot be sent to or run in the other process.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = _source(model, arguments, Path(folder))
        result = _run_worker(
            {
                "task": "torch",
                "source": source,
                "variant": variant,
                "runs": max(runs, 2),
                "threads": threads,
                "return_freed": return_freed,
            },
            inputs,
            Path(folder),
        )
    sizes = [run["bytes"] for run in result["runs"]]
    size = int(statistics.median(sizes[1:])) if return_freed else sizes[0]
    notes = [f"first run {sizes[0] / 2**20:.1f} MiB"]
    if return_freed and not result["returned"]:
        notes.append("the C library kept freed memory")
    if not return_freed:
        notes.append("default allocator settings")
    if result["runs"][0]["method"] != "clear_refs":
        notes.append(result["runs"][0]["method"])
    return MemoryReading(f"process: {variant}", "rss", size, "; ".join(notes))


def onnxruntime_memory(
    path: str | Path,
    inputs: Sequence[Tensor],
    *,
    arena: bool = False,
    memory_pattern: bool = False,
    return_freed: bool = True,
    threads: int = 1,
) -> tuple[MemoryReading, MemoryReading]:
    """Measures `rss` of the first and of the second run of an ONNX file in ONNX Runtime, in a fresh process.

    With arena and memory pattern both on, the second run allocates a further block for the pattern that the first one
    recorded, beside the arena that the first one filled (microsoft/onnxruntime#14477); so both runs are reported, and
    the second one counts from the resident memory before the first.

    Arguments:
        path: the ONNX file.
        inputs: the input.
        arena, memory_pattern: ONNX Runtime's options; off, the figure is what the network needs.
        return_freed, threads: as for `process_memory`.

    Raises:
        WithinError: when the file cannot be loaded.
    """
    request = {
        "task": "onnx",
        "source": {"onnx": str(Path(path).resolve())},
        "onnxruntime": {"arena": arena, "memory_pattern": memory_pattern},
        "runs": 2,
        "threads": threads,
        "return_freed": return_freed,
    }
    with tempfile.TemporaryDirectory() as folder:
        first, second = _run_worker(request, inputs, Path(folder))["runs"]
    options = f"arena {'on' if arena else 'off'}, pattern {'on' if memory_pattern else 'off'}"
    return (
        MemoryReading(f"onnxruntime: run 1, {options}", "rss", first["bytes"]),
        MemoryReading(f"onnxruntime: run 2, {options}", "rss", first["left"] + second["bytes"]),
    )


def measure_operators(keys: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Measures single operators in one fresh process.

    Arguments:
        keys: fields of `OperatorKey`, as plain values.

    Returns:
        for each, what it takes beyond input and output, in bytes: by the profiler, and in resident memory.
    """
    request = {"task": "operators", "source": {"operators": list(keys)}, "threads": 1, "return_freed": True}
    with tempfile.TemporaryDirectory() as folder:
        result = _run_worker(request, (), Path(folder))
    return [(alloc, rss) for alloc, rss in result["operators"]]


def _source(
    model: nn.Module | ExportedProgram | str, arguments: Mapping[str, Any] | None, folder: Path
) -> dict[str, Any]:
    if isinstance(model, str):
        return {"factory": model, "arguments": dict(arguments or {})}
    if isinstance(model, ExportedProgram):
        torch.export.save(model, folder / "model.pt2")
        return {"program": str(folder / "model.pt2")}
    try:
        torch.save(model, folder / "model.pt")
    except Exception as error:  # pickle raises many types, depending on what it meets
        raise WithinError(
            f"The module cannot be sent to another process: {error}",
            where=type(model).__name__,
            todo="name a factory instead, as package.module:function",
        ) from error
    return {"module": str(folder / "model.pt")}


def _run_worker(request: dict[str, Any], inputs: Sequence[Tensor], folder: Path) -> dict[str, Any]:
    torch.save([value.detach() for value in inputs], folder / "inputs.pt")
    request_path, result_path = folder / "request.json", folder / "result.json"
    request_path.write_text(json.dumps({**request, "inputs": str(folder / "inputs.pt")}))
    command = [sys.executable, "-m", "within.core.device.worker", str(request_path), str(result_path)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": str(request["threads"]),
    }
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode != 0 or not result_path.is_file():
        reason = (finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"])[-1]
        raise WithinError(
            f"The measuring process failed: {reason}",
            where=_where(request),
            todo="give a class or factory that another process can import; code 137 or -9 means out of memory",
        )
    result: dict[str, Any] = json.loads(result_path.read_text())
    if "error" in result:
        raise WithinError(result["error"], where=_where(request))
    return result


def _where(request: dict[str, Any]) -> str:
    return f"{request['task']} {next(iter(request['source'].values()))}"[:200]
