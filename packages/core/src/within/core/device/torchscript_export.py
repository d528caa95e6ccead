"""Export through PyTorch's older exporter, which traces with TorchScript: for runtimes that read only its dialect."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.device.inference import evaluating
from within.core.errors import WithinError
from within.core.files import atomic_write


def torchscript_export(
    model: nn.Module, inputs: tuple[Tensor, ...], path: str | Path, *, opset: int = 17, dynamic: bool = True
) -> Path:
    """Writes a module as ONNX by tracing one run of it.

    Arguments:
        model: in evaluation mode during the export.
        inputs: example inputs.
        path: the file; written whole or not at all.
        opset: version of the operator set, at most 20.
        dynamic: leave axis 0 of all inputs open.

    Raises:
        WithinError: when the exporter cannot convert the module.
    """
    names = [f"input_{number}" for number in range(len(inputs))]
    axes = {name: {0: "batch"} for name in names} if dynamic else None
    with atomic_write(path) as temporary, evaluating(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _Plain(model),  # the exporter takes the attribute `graph` of a graph module for its own
                inputs,
                str(temporary),
                dynamo=False,
                opset_version=opset,
                input_names=names,
                dynamic_axes=axes,
            )
        except Exception as error:  # the exporter raises many types
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise WithinError(f"The TorchScript exporter cannot convert the model: {lines[0]}") from error
    return Path(path)


class _Plain(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, *inputs: Tensor) -> Any:
        return self.model(*inputs)
