"""`trace`: a model and example inputs in, a `Graph` out, through `torch.export` in non-strict mode."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
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
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamic:
            return _export_dynamic(model, inputs)
        try:
            return torch.export.export(model, inputs, strict=False)
        except Exception as error:
            raise _untraceable(model, error) from error


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
        attempts.append((doubled, shapes))
    attempts.append((inputs, None))
    first: Exception | None = None
    for arguments, shapes in attempts:
        try:
            return torch.export.export(model, arguments, strict=False, dynamic_shapes=shapes)
        except Exception as error:
            first = first or error
    assert first is not None
    raise _untraceable(model, first) from first


def _untraceable(model: nn.Module, error: Exception) -> WithinError:
    message = str(error)
    where = type(model).__name__
    frames = []
    frame = error.__traceback__
    while frame is not None:
        path = frame.tb_frame.f_code.co_filename
        if "/torch/" not in path and "/within/core/" not in path:
            frames.append(f"{path}:{frame.tb_lineno} in {frame.tb_frame.f_code.co_name}")
        frame = frame.tb_next
    in_message = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', message)
    in_message = [item for item in in_message if "/torch/" not in item[0]]
    if in_message:
        where = "{}:{} in {}".format(*in_message[-1])
    elif frames:
        where = frames[-1]
    operator = re.search(r"aten[.:]+(\w+)", message)
    first = next((line.strip() for line in message.splitlines() if line.strip()), type(error).__name__)
    named = f" at operator {operator.group(1)}" if operator else ""
    return WithinError(
        f"The model cannot be traced{named}: {type(error).__name__}: {first[:300]}",
        where=where,
        todo="remove control flow that depends on tensor values there, or check the example inputs",
    )
