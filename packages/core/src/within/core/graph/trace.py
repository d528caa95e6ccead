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
        the graph.

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
        program = _export(model, arguments, dynamic)
    finally:
        for name, module in model.named_modules():
            module.training = training.get(name, False)
    return read_graph(model, arguments, program, heads=heads, grouped=grouped)


def _export(model: nn.Module, inputs: tuple[Any, ...], dynamic: bool) -> torch.export.ExportedProgram:
    with _quiet(), torch.no_grad():
        if dynamic:
            return _export_dynamic(model, inputs)
        try:
            return torch.export.export(model, inputs, strict=False)
        except Exception as error:
            raise _untraceable(model, error) from error


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


def _export_dynamic(model: nn.Module, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram:
    """Exports with symbolic batch and spatial sizes; falls back to the batch alone, then to fixed sizes."""
    auto = torch.export.Dim.AUTO
    doubled = tuple(
        torch.cat([item, item]) if isinstance(item, torch.Tensor) and item.dim() and item.shape[0] == 1 else item
        for item in inputs
    )
    attempts: list[tuple[tuple[Any, ...], Any]] = []
    for axes in (lambda rank: range(rank), lambda rank: [0]):
        shapes = tuple(
            dict.fromkeys(axes(item.dim()), auto) if isinstance(item, torch.Tensor) else None for item in doubled
        )
        attempts.append((doubled, _by_signature(model, shapes)))
    attempts.append((inputs, None))
    first: Exception | None = None
    for arguments, shapes in attempts:
        try:
            return torch.export.export(model, arguments, strict=False, dynamic_shapes=shapes)
        except Exception as error:
            first = first or error
    assert first is not None
    raise _untraceable(model, first) from first


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
