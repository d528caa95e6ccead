"""`trace`: a model and example inputs in, a `Graph` out, through `torch.export` in non-strict mode."""

from __future__ import annotations

import inspect
import io
import linecache
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import nn

from within.core.errors import WithinError
from within.core.graph.batch import agrees, batch_of, is_open, larger, open_batch, with_batch
from within.core.graph.graph import Graph, read_graph


def trace(
    model: nn.Module,
    inputs: Sequence[Any],
    *,
    dynamic: bool = False,
    heads: str = "dimension",
    grouped: str = "within",
) -> Graph:
    """Traces a model once, in evaluation mode, without computing anything.

    Arguments:
        model: any module; its mode is restored afterwards.
        inputs: example inputs, as a tuple of positional arguments.
        dynamic: leave batch and spatial sizes symbolic where the model permits.
        heads: where attention splits channels into heads, shrink the head "dimension" or drop "whole" heads.
        grouped: in grouped convolutions cut channels "within" every group, or "whole" groups.

    Returns:
        the graph; its `notes` say which sizes a dynamic trace could not leave open.

    Raises:
        WithinError: when the model cannot be traced, with the operator or statement and the line of the user's file.
    """
    if heads not in ("dimension", "whole") or grouped not in ("within", "whole"):
        raise WithinError(
            "heads is 'dimension' or 'whole', grouped is 'within' or 'whole'", where=f"{heads}, {grouped}"
        )
    if isinstance(inputs, torch.Tensor):
        raise WithinError("The example inputs must be a tuple", where="trace(model, inputs)", todo="write (tensor,)")
    arguments = tuple(inputs)
    training = {name: module.training for name, module in model.named_modules()}
    model.eval()
    try:
        with _quiet(), torch.no_grad():
            program, notes = _export_dynamic(model, arguments) if dynamic else (_export(model, arguments), ())
    except Exception as error:
        raise _untraceable(model, error) from error
    finally:
        for name, module in model.named_modules():
            module.training = training.get(name, False)
    return read_graph(model, arguments, program, heads=heads, grouped=grouped, notes=notes)


def _export(model: nn.Module, inputs: tuple[Any, ...], shapes: Any = None) -> torch.export.ExportedProgram:
    return torch.export.export(model, inputs, strict=False, dynamic_shapes=shapes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what torch logs, warns and prints about attempts that fail; errors are raised all the same."""
    loggers = [logging.getLogger(name) for name in ("torch.fx", "torch._export", "torch.export", "torch._subclasses")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _export_dynamic(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """Exports with symbolic batch and spatial sizes; falls back to the batch alone, then to fixed sizes.

    Returns the program, and in words what stayed fixed.
    """
    doubled = with_batch(inputs, 2) if batch_of(inputs) == 1 else inputs  # torch treats axes of one apart
    first: Exception | None = None
    for axes in (lambda rank: range(rank), lambda rank: [0]):
        shapes = tuple(
            dict.fromkeys(axes(item.dim()), torch.export.Dim.AUTO) if isinstance(item, torch.Tensor) else None
            for item in doubled
        )
        try:
            program = _export(model, doubled, _by_signature(model, shapes))
        except Exception as error:
            first = first or error
            continue
        if (doubled is inputs or _batch_is_open(program)) and agrees(program, model, larger(inputs, program)):
            return program, _fixed_axes(program)
    try:
        opened = open_batch(lambda arguments: _export(model, arguments), inputs) if batch_of(inputs) else None
        if opened is not None and agrees(opened, model, with_batch(inputs, 5)):
            return opened, _fixed_axes(opened, batch_is_open=True)
    except Exception as error:
        first = first or error
    try:
        program = _export(model, inputs)
    except Exception as error:
        raise (first or error) from error
    return program, _fixed_axes(program)


def _input_shapes(program: torch.export.ExportedProgram) -> list[tuple[str, torch.Size]]:
    own = set(program.graph_signature.user_inputs)
    return [
        (node.name, node.meta["val"].shape)
        for node in program.graph_module.graph.nodes
        if node.op == "placeholder" and node.name in own and isinstance(node.meta.get("val"), torch.Tensor)
    ]


def _batch_is_open(program: torch.export.ExportedProgram) -> bool:
    return any(len(shape) > 0 and is_open(shape[0]) for _, shape in _input_shapes(program))


def _fixed_axes(program: torch.export.ExportedProgram, batch_is_open: bool = False) -> tuple[str, ...]:
    """Says which axes of images (batch, channels, ...) stay as they were in the example."""
    notes = []
    for name, shape in _input_shapes(program):
        if len(shape) < 3:
            continue
        fixed = [
            f"axis {axis} at {size}"
            for axis, size in enumerate(shape)
            if not is_open(size) and ((axis > 1 and size != 1) or (axis == 0 and not batch_is_open))  # 1 is broadcast
        ]
        if fixed:
            notes.append(f"The model fixes {name}: {', '.join(fixed)}")
    return tuple(notes)


def _by_signature(model: nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Puts what falls to `*args` of `forward` into a tuple of its own, as torch.export wants it."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    named = next(
        (number for number, item in enumerate(parameters) if item.kind is inspect.Parameter.VAR_POSITIONAL), len(shapes)
    )
    return shapes if named >= len(shapes) else (*shapes[:named], shapes[named:])


def _untraceable(model: nn.Module, error: Exception) -> WithinError:
    where, operator = type(model).__name__, ""
    frame = error.__traceback__
    while frame is not None:
        path, line = frame.tb_frame.f_code.co_filename, frame.tb_lineno
        if "/torch/" not in path and "/within/core/" not in path:
            statement = linecache.getline(path, line).strip()
            where = f"{path}:{line} in {frame.tb_frame.f_code.co_name}" + (f" ({statement})" if statement else "")
        called = frame.tb_frame.f_locals.get("func")  # the dispatcher's name for the operator it runs
        if isinstance(called, torch._ops.OpOverload):
            operator = called._schema.name.removeprefix("aten::")
        frame = frame.tb_next
    message = str(error)
    found = re.search(r"\b(?:aten|torch\.ops\.\w+)[.:]+(\w+)", message)
    operator = operator or (found.group(1) if found else "")
    if "data-dependent" in message:  # raised where the symbol is asked for, far from any operator
        operator = "item (a value read out of a tensor)"
    first = next((line.strip() for line in message.splitlines() if line.strip()), type(error).__name__)
    named = f" at operator {operator}" if operator else ""
    return WithinError(
        f"The model cannot be traced{named}: {type(error).__name__}: {first[:300]}",
        where=where,
        todo="remove control flow that depends on tensor values there, or check the example inputs",
    )
