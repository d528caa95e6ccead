"""The fresh process in which resident memory is measured: reads a request, writes a result, both JSON.

Run as `python -m within.core.device.worker REQUEST RESULT` by `within.core.device.memory.process`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.device.memory.allocator import disable_huge_pages, return_freed_memory
from within.core.device.memory.graph_executor import GraphExecutor, graph_module
from within.core.device.memory.profiler import allocation_peak
from within.core.device.memory.resident import resident_peak
from within.core.device.runtimes import OnnxRuntime, channels_last, channels_last_module
from within.core.device.workspace.operator_key import OperatorKey
from within.core.device.workspace.single_operator import single_operator
from within.core.errors import WithinError


def main(request_path: str, result_path: str) -> None:
    """Carries out one request; a user error is written as `{"error": message}`."""
    request = json.loads(Path(request_path).read_text())
    torch.set_num_threads(request["threads"])
    if request["threads"] == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the kernel's count is then off by one batch at most
    disable_huge_pages()
    returned = return_freed_memory() if request["return_freed"] else False
    gc.freeze()  # what the imports made is never garbage; collecting is fast without it
    try:
        if request["task"] == "operators":
            result: dict[str, Any] = {"operators": [_operator(key) for key in request["source"]["operators"]]}
        else:
            run = _TASKS[request["task"]](request)
            with torch.no_grad():
                runs = [asdict(resident_peak(run)) for _ in range(request["runs"])]
            result = {"runs": runs, "returned": returned}
    except WithinError as error:
        result = {"error": error.paragraph()}
    Path(result_path).write_text(json.dumps(result))


def _torch_task(request: dict[str, Any]) -> Callable[[], Any]:
    model, inputs = _model(request["source"]), _inputs(request)
    executor, _, layout = request["variant"].partition(", ")
    if layout == "channels_last":
        inputs = [channels_last(value) for value in inputs]
        if isinstance(model, nn.Module):
            model = channels_last_module(model)
    if executor == "graph":
        module = graph_module(model, inputs)
        if layout == "channels_last":
            channels_last_module(module)
        _warm_up(layout)
        return lambda: GraphExecutor(module).run(*inputs)
    if not isinstance(model, nn.Module):
        raise WithinError("An exported program has no eager forward", todo="measure one of the graph variants")
    for part in model.modules():
        part.training = False
    _warm_up(layout)
    return lambda: model(*inputs)


def _onnx_task(request: dict[str, Any]) -> Callable[[], Any]:
    options = request["onnxruntime"]
    session = OnnxRuntime(threads=request["threads"], **options).load(request["source"]["onnx"])
    inputs = _inputs(request)
    return lambda: session.run(inputs)


_TASKS: dict[str, Callable[[dict[str, Any]], Callable[[], Any]]] = {"torch": _torch_task, "onnx": _onnx_task}


def _operator(fields: dict[str, Any]) -> tuple[int, int]:
    """Returns what an operator takes beyond its output: by the profiler, and in resident memory (the second run)."""
    run = single_operator(OperatorKey.from_plain(fields))
    with torch.no_grad():
        output = run().untyped_storage().nbytes()
        resident = [resident_peak(run).bytes for _ in range(2)]
    return max(0, allocation_peak(run).bytes - output), max(0, resident[1] - output)


def _model(source: dict[str, Any]) -> Any:
    if "factory" in source:
        return build(source["factory"], source.get("arguments", {}))
    if "program" in source:
        return torch.export.load(source["program"])
    return torch.load(source["module"], weights_only=False)  # written a moment ago by the process that asks


def build(factory: str, arguments: dict[str, Any]) -> nn.Module:
    """Calls a factory named as `package.module:function` and returns the module that it makes.

    Raises:
        WithinError: when it cannot be found or does not make a module.
    """
    module_name, _, function_name = factory.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise WithinError(
            f"The factory cannot be found: {error}", where=factory, todo="name it as package.module:function"
        ) from error
    model = function(**arguments)
    if not isinstance(model, nn.Module):
        raise WithinError(f"The factory returned a {type(model).__name__}, not an nn.Module", where=factory)
    return model


def _inputs(request: dict[str, Any]) -> list[Tensor]:
    return list(torch.load(request["inputs"], weights_only=True))


def _warm_up(layout: str) -> None:
    """Runs a few small operators, so that libraries are loaded and their tables exist before the first reading."""
    small = torch.rand(1, 16, 64, 64)
    if layout == "channels_last":
        small = channels_last(small)
    network = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.BatchNorm2d(16), nn.ConvTranspose2d(16, 16, 2, 2))
    with torch.no_grad():
        network.eval()(small)
        torch.rand(64, 64) @ torch.rand(64, 64)


if __name__ == "__main__":
    main(*sys.argv[1:])
