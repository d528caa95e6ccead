"""Export a module to one ONNX file and prove that it computes the same.

The module is traced by `torch.export` in eval mode, with the batch size and the image size left open where the model
permits it, converted, and then run in ONNX Runtime against the module at the given size and at another one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.export import Dim, ExportedProgram

from within.core.device.inference import evaluating
from within.core.device.verify import Verification, verify
from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.graph.substitute import call_with, substitutes

_BATCH, _SPATIAL = 0, (2, 3)


@dataclass(frozen=True)
class OnnxModel:
    """An exported model.

    Attributes:
        path: the ONNX file; weights are inside.
        opset: version of the operator set.
        dynamic_axes: for each input, the axes left open.
        static_reason: why an axis that was asked for is fixed; None when none is.
        verification: how close ONNX Runtime's results are to the module's.
    """

    path: Path
    opset: int
    dynamic_axes: tuple[tuple[int, ...], ...]
    static_reason: str | None
    verification: Verification


def export_onnx(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    path: str | Path,
    *,
    dynamic: bool = True,
    opset: int = 20,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    tolerance: float = 1e-4,
) -> OnnxModel:
    """Writes `model` as ONNX and verifies the file against it.

    Arguments:
        model: exported in eval mode; left in the mode it was in. If it has an attribute `size_multiple`, height and
            width are left open as multiples of that.
        inputs: example inputs. Axis 0 of each is the batch; axes 2 and 3 of 4-d inputs are height and width.
        path: the file; written whole or not at all.
        dynamic: leave batch, height and width open. If the model does not permit it, fewer axes are left open, and
            the result says why.
        opset: version of the ONNX operator set.
        input_names, output_names: names in the file; by default those of the traced graph.
        tolerance: largest difference allowed, relative to the largest output.

    Raises:
        WithinError: when the model cannot be traced, holds an operator that ONNX has no counterpart for (named), or
            the file does not compute the same as the module.
    """
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WithinError("The weights hold NaN or infinite values", where=name, todo="repair or reload them")
    static_reason = None
    with evaluating(model):
        for axes, multiple in [*(_attempts(model, inputs) if dynamic else []), ((), 1)]:
            larger = _larger(inputs, axes, multiple)
            try:
                _require_size(model, larger)
                program = _trace(model, inputs, axes, multiple)
                onnx_program = _convert(program, opset, input_names, output_names)
                break
            except WithinError as error:
                if not axes:
                    raise
                static_reason = static_reason or error.what
        with atomic_write(path) as temporary:
            onnx_program.save(str(temporary), external_data=False)
            verification = verify(model, temporary, [inputs, larger], tolerance=tolerance)
    open_axes = tuple(tuple(axis for axis in axes if axis < value.ndim) for value in inputs)
    return OnnxModel(Path(path), opset, open_axes, static_reason, verification)


def _attempts(model: nn.Module, inputs: Sequence[Tensor]) -> list[tuple[tuple[int, ...], int]]:
    """Returns the sets of axes to try to leave open, the largest first, with the multiple that the image keeps."""
    if not all(value.ndim == 4 for value in inputs):
        return [((_BATCH,), 1)]
    stated = getattr(model, "size_multiple", None)
    multiple = _accepted_multiple(model, inputs) if stated is None else int(stated)
    return [((_BATCH, *_SPATIAL), multiple), (_SPATIAL, multiple), ((_BATCH,), 1)]


def _accepted_multiple(model: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Returns the smallest power of two, up to 64, that the image may grow by; 1 when there is none."""
    for multiple in (1, 2, 4, 8, 16, 32, 64):
        if not any(value.shape[axis] % multiple for value in inputs for axis in _SPATIAL):
            with contextlib.suppress(WithinError):
                _require_size(model, _larger(inputs, _SPATIAL, multiple))
                return multiple
    return 1


def _require_size(model: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Runs the model on fake tensors; raises when it does not take inputs of this size."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    state = substitutes(model, fake.from_tensor)
    try:
        with _quiet(), fake:
            call_with(model, state, tuple(fake.from_tensor(value) for value in inputs))
    except DataDependentOutputException:
        return  # the trace will say so, with the line
    except Exception as error:
        shapes = ", ".join("x".join(map(str, value.shape)) for value in inputs)
        raise WithinError(f"The model does not take an input of {shapes}: {_reason(error)}") from error


def _larger(inputs: Sequence[Tensor], axes: Sequence[int], multiple: int) -> list[Tensor]:
    """Returns inputs of another size along the open axes; of other values where none is open."""
    if not axes:
        return [torch.rand_like(value) if value.is_floating_point() else value for value in inputs]
    larger = []
    for value in inputs:
        sizes = list(value.shape)
        if _BATCH in axes:
            sizes[0] += 1
        if _SPATIAL[0] in axes:
            # unlike steps, so that height and width cannot be exchanged unnoticed
            sizes[2:4] = [sizes[2] + multiple, sizes[3] + 2 * multiple]
        larger.append(_resized(value, sizes))
    return larger


def _trace(model: nn.Module, inputs: Sequence[Tensor], axes: Sequence[int], multiple: int) -> ExportedProgram:
    # a traced size of 1 is taken for a constant
    batch = max(2, inputs[0].shape[0])
    example = [_resized(value, [batch, *value.shape[1:]]) if _BATCH in axes else value for value in inputs]
    shapes = tuple({axis: _dimension(axis, value, multiple) for axis in axes} for value in example) if axes else None
    try:
        with _quiet():
            return torch.export.export(model, tuple(example), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export raises many types, its own and those of the model
        raise WithinError(
            f"The model cannot be traced{' with open sizes' if axes else ''}: {_reason(error)}",
            where=_user_line(error, model),
            todo="remove control flow that depends on values or sizes, or run the model in PyTorch",
        ) from error


def _dimension(axis: int, example: Tensor, multiple: int) -> Any:
    if axis == _BATCH:
        return Dim("batch", min=1)
    name = "height" if axis == _SPATIAL[0] else "width"
    if multiple == 1:
        return Dim(name, min=1)
    if example.shape[axis] % multiple:
        raise WithinError(
            f"The {name} of the example, {example.shape[axis]}, is not a multiple of {multiple}",
            todo=f"pass an example whose sides are multiples of {multiple}",
        )
    return multiple * Dim(f"{name}_blocks", min=1)


def _convert(
    program: ExportedProgram, opset: int, input_names: Sequence[str] | None, output_names: Sequence[str] | None
) -> Any:
    try:
        with _quiet():
            onnx_program = torch.onnx.export(
                program,
                dynamo=True,
                external_data=False,
                opset_version=opset,
                input_names=input_names,
                output_names=output_names,
                verbose=False,
            )
    except Exception as error:
        operators = sorted(set(re.findall(r"OpOverload\(op='([\w.:]+)', overload='\w+'\)", _whole(error))))
        if operators:
            raise WithinError(
                f"ONNX has no counterpart for the operator {', '.join(operators)}",
                where=_node_line(program, operators),
                todo="replace it in the model",
            ) from error
        raise WithinError(f"The model cannot be converted to ONNX: {_reason(error)}") from error
    assert onnx_program is not None
    return onnx_program


def _resized(value: Tensor, sizes: Sequence[int]) -> Tensor:
    """Repeats a tensor along its axes until it has the wanted size, so that its values stay likely ones."""
    repeats = [-(-size // own) for size, own in zip(sizes, value.shape)]
    return value.repeat(*repeats)[tuple(slice(size) for size in sizes)].contiguous()


def _reason(error: BaseException) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


def _whole(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    return "\n".join(texts)


def _user_line(error: BaseException, model: nn.Module) -> str:
    """Returns the last line of the traceback that is not in PyTorch's own files: the model's."""
    root = str(Path(torch.__file__).parent)
    found, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(root) and file != __file__:
            found = f"{file}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found or type(model).__name__


def _node_line(program: ExportedProgram, operators: Sequence[str]) -> str | None:
    names = [operator.split(".")[-1].strip("_") for operator in operators]
    for node in program.graph.nodes:
        if node.op == "call_function" and any(name in str(node.target) for name in names):
            lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
            if lines:
                return f"{lines[-1][0]}, line {lines[-1][1]}"
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the tracer's and exporter's notices off the terminal; what matters of them is in the errors raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
