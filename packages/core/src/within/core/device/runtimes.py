"""Where a model runs: ONNX Runtime, eager PyTorch, PyTorch in channels_last, torch.compile and OpenVINO.

A runtime loads a model into a session, a session maps a tuple of tensors to a tuple of tensors. All run on the CPU with
a stated number of threads, one by default, so that figures of different runtimes can be compared.
"""

from __future__ import annotations

import copy
import importlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from within.core.errors import WithinError, missing_extra


@dataclass(frozen=True)
class Session:
    """A loaded model.

    Attributes:
        run: runs the model once on a sequence of tensors and returns its outputs.
        cpu_clock: seconds of CPU time that count for a run: of the calling thread where the runtime works in it, of
            the whole process where it has threads of its own.
    """

    run: Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
    cpu_clock: Callable[[], float]


class Runtime(Protocol):
    """A way to run models."""

    @property
    def name(self) -> str:
        """Its name in `runtime_names()`."""
        ...

    def load(self, model: nn.Module | str | Path, inputs: Sequence[Tensor] | None = None) -> Session:
        """Returns a session; `inputs` is an example, needed to load an `nn.Module` into a runtime that reads ONNX."""
        ...


@dataclass(frozen=True)
class RuntimeStatus:
    """Whether a runtime can be used here, for `within doctor`."""

    name: str
    available: bool
    version: str
    reason: str


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime on the CPU.

    Arguments:
        threads: of one operator; with 1 it computes in the calling thread.
        arena: keep freed memory in an arena. It makes runs faster and resident memory larger.
        memory_pattern: allocate all activations as one block planned from the run before.
        optimization: graph optimisation level.
        save_optimized: where to write the graph that is really run.
    """

    threads: int = 1
    arena: bool = True
    memory_pattern: bool = True
    optimization: Literal["none", "basic", "extended", "all"] = "all"
    save_optimized: str | Path | None = None
    name: str = "onnxruntime"

    def load(self, model: nn.Module | str | Path, inputs: Sequence[Tensor] | None = None) -> Session:
        """Loads an ONNX file, or exports the module first.

        Raises:
            WithinError: when the file is missing or is not a model that ONNX Runtime can load.
        """
        import onnxruntime

        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = self.arena
        options.enable_mem_pattern = self.memory_pattern
        options.graph_optimization_level = {
            "none": levels.ORT_DISABLE_ALL,
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[self.optimization]
        options.log_severity_level = 3
        if self.save_optimized is not None:
            options.optimized_model_filepath = str(self.save_optimized)
        try:
            session = _with_onnx(
                model,
                inputs,
                lambda path: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]),
            )
        except WithinError:
            raise
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            raise _rejected("ONNX Runtime cannot load the model", model, error) from error
        names = [value.name for value in session.get_inputs()]

        def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            feed = {name: tensor.detach().numpy() for name, tensor in zip(names, inputs, strict=True)}
            try:
                found = session.run(None, feed)
            except Exception as error:
                raise _rejected("ONNX Runtime cannot run the model on these inputs", model, error) from error
            return tuple(torch.from_numpy(value) for value in found)

        return Session(run, time.thread_time if self.threads == 1 else time.process_time)


@dataclass(frozen=True)
class Eager:
    """PyTorch without a compiler; the module is copied and put in eval mode.

    Arguments:
        threads: of one operator. PyTorch has one setting a process, so it is set before each run.
        channels_last: convert weights and 4-d inputs to the channels_last memory format.
        compile: run through torch.compile with frozen weights.
    """

    threads: int = 1
    channels_last: bool = False
    compile: bool = False
    name: str = "torch"

    def load(self, model: nn.Module | str | Path, inputs: Sequence[Tensor] | None = None) -> Session:
        """Loads a module.

        Raises:
            WithinError: when given a file; PyTorch does not run ONNX.
        """
        if not isinstance(model, nn.Module):
            raise WithinError("PyTorch runs a module, not a file", where=str(model), todo="use the runtime onnxruntime")
        module = copy.deepcopy(model)
        for part in module.modules():
            part.training = False
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        if self.channels_last:
            module = channels_last_module(module)
        forward: Callable[..., Any] = module
        if self.compile:
            forward = _frozen(torch.compile(module))

        def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            if torch.get_num_threads() != self.threads:
                torch.set_num_threads(self.threads)
            if self.channels_last:
                inputs = [channels_last(value) for value in inputs]
            with torch.no_grad():
                return as_tuple(forward(*inputs))

        return Session(run, time.thread_time if self.threads == 1 else time.process_time)


@dataclass(frozen=True)
class OpenVino:
    """OpenVINO on the CPU, in full precision; CPU time is that of the process, as it computes in threads of its own.

    Arguments:
        threads: of inference.
        precision: of what is not quantised; None leaves it to OpenVINO, which takes bfloat16 where the CPU has it.
    """

    threads: int = 1
    precision: str | None = "f32"
    name: str = "openvino"

    def load(self, model: nn.Module | str | Path, inputs: Sequence[Tensor] | None = None) -> Session:
        """Loads an ONNX file, or exports the module first.

        Raises:
            WithinError: when OpenVINO is not installed (extra `openvino`) or cannot read the file.
        """
        try:
            openvino = importlib.import_module("openvino")
        except Exception as error:  # a broken binary raises more than ImportError
            raise missing_extra("within-core", "openvino", error) from error
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1}
        if self.precision is not None:
            settings["INFERENCE_PRECISION_HINT"] = self.precision
        try:
            compiled = _with_onnx(model, inputs, lambda path: openvino.Core().compile_model(path, "CPU", settings))
        except WithinError:
            raise
        except Exception as error:
            raise _rejected("OpenVINO cannot load the model", model, error) from error
        request = compiled.create_infer_request()

        def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            try:
                results = request.infer([tensor.detach().numpy() for tensor in inputs], share_inputs=True)
            except Exception as error:
                raise _rejected("OpenVINO cannot run the model on these inputs", model, error) from error
            return tuple(torch.from_numpy(results[index].copy()) for index in range(len(compiled.outputs)))

        return Session(run, time.process_time)


_RUNTIMES: dict[str, Callable[..., Runtime]] = {
    "onnxruntime": OnnxRuntime,
    "torch": Eager,
    "torch_channels_last": lambda **options: Eager(channels_last=True, name="torch_channels_last", **options),
    "torch_compile": lambda **options: Eager(compile=True, name="torch_compile", **options),
    "openvino": OpenVino,
}


def runtime(name: str, **options: Any) -> Runtime:
    """Returns the runtime of that name.

    Arguments:
        name: one of `runtime_names()`.
        options: arguments of that runtime, such as `threads=1`.

    Raises:
        WithinError: for an unknown name or option.
    """
    if name not in _RUNTIMES:
        raise WithinError(f"There is no runtime named {name!r}", todo=f"choose one of: {', '.join(_RUNTIMES)}")
    try:
        return _RUNTIMES[name](**options)
    except TypeError as error:
        raise WithinError(f"The runtime {name} does not take these options: {error}", where=str(options)) from error


def runtime_names() -> tuple[str, ...]:
    """Returns the names of all runtimes, available or not."""
    return tuple(_RUNTIMES)


def runtime_statuses() -> tuple[RuntimeStatus, ...]:
    """Returns, for each runtime, whether it can be used here, its version, and why not."""
    packages = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
    statuses = []
    for name in _RUNTIMES:
        try:
            package = importlib.import_module(packages.get(name, "torch"))
            statuses.append(RuntimeStatus(name, True, str(package.__version__), ""))
        except Exception as error:
            statuses.append(RuntimeStatus(name, False, "", f"{type(error).__name__}: {_first_line(error)}"))
    return tuple(statuses)


def channels_last(value: Tensor) -> Tensor:
    """Returns a 4-d tensor in the channels_last memory format, any other as it is."""
    # .to, not .contiguous: that one leaves the strides of a one-channel tensor, which fits both formats
    return value.to(memory_format=torch.channels_last) if value.ndim == 4 else value


def channels_last_module(module: nn.Module) -> nn.Module:
    """Converts the 4-d weights of a module to the channels_last memory format, in place, and returns it."""
    converted: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return converted


def as_tuple(output: Any) -> tuple[Tensor, ...]:
    """Returns the tensors in the output of a module, in the order in which ONNX numbers them."""
    return tuple(leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, Tensor))


def _frozen(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a compiled module whose weights are frozen whenever it compiles for new shapes.

    As an option of `torch.compile`, freezing would come too late for the weights of quantised operators.
    """
    from torch._inductor import config

    seen: set[tuple[torch.Size, ...]] = set()

    def run(*inputs: Tensor) -> Any:
        shapes = tuple(value.shape for value in inputs)
        if shapes in seen:
            return compiled(*inputs)
        with config.patch(freezing=True):
            found = compiled(*inputs)
        seen.add(shapes)
        return found

    return run


def _with_onnx(model: nn.Module | str | Path, inputs: Sequence[Tensor] | None, load: Callable[[str], Any]) -> Any:
    if not isinstance(model, nn.Module):
        if not Path(model).is_file():
            raise WithinError("There is no such model file", where=str(model))
        return load(str(model))
    if inputs is None:
        raise WithinError("An example input is needed to load a module", todo="pass inputs=, or export to ONNX first")
    from within.core.device.export import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        return load(str(export_onnx(model, tuple(inputs), Path(folder) / "model.onnx", dynamic=False).path))


def _rejected(what: str, model: nn.Module | str | Path, error: Exception) -> WithinError:
    """Returns the error of a runtime that refuses a model, with the node that it means."""
    if isinstance(model, nn.Module):
        return WithinError(f"{what}: {_first_line(error)}", where=type(model).__name__)
    from within.core.device.rejected_node import rejected_node

    node = rejected_node(model, str(error))
    todo = None if node is None else "export that operator in another form, or run it outside of the model"
    return WithinError(
        f"{what}: {_first_line(error)}", where=f"{model}" + (f", node {node}" if node else ""), todo=todo
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
