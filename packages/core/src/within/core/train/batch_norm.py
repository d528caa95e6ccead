"""Batch-norm statistics after a network was changed: estimate them again, or hold them fixed.

Pruned or quantised, a network no longer produces the activations whose running mean and variance its batch-norm layers
remember. Re-estimation forgets them and takes, over N batches, the plain average of the batch statistics

    mean = 1/N sum_i mean_i,   var = 1/N sum_i var_i,

with all weights fixed: the cheapest repair there is, and it needs no labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from within.core.device.inference import device_of
from within.core.errors import WithinError
from within.core.progress import track


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Returns the batch-norm layers that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def reestimate_batch_norm(model: nn.Module, batches: Iterable[Any], *, limit: int | None = None) -> int:
    """Replaces the running statistics of all batch-norm layers by averages over `batches`.

    Arguments:
        model: changed in place; weights, modes and momenta stay as they are.
        batches: input tensors, tuples of them, or `(inputs, target)` pairs whose target is ignored.
        limit: at most so many batches.

    Returns:
        The number of batches used; 0 when the model has no batch norm.

    Raises:
        WithinError: when there are no batches or one holds NaN or infinity. The old statistics are then kept.
    """
    layers = batch_norms(model)
    if not layers:
        return 0
    saved = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in layers]
    momenta = [layer.momentum for layer in layers]
    modes = [(module, module.training) for module in model.modules()]
    device = device_of(model)
    used, done = 0, False
    try:
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch then averages cumulatively
            layer.train()
        with torch.no_grad():
            for batch in track(batches, "Batch-norm statistics", total=limit):
                if used == limit:
                    break
                inputs = _inputs(batch)
                if not all(torch.isfinite(value).all() for value in inputs if value.is_floating_point()):
                    raise WithinError(
                        "The calibration data hold NaN or infinity", where=f"batch {used}", todo="repair or drop it"
                    )
                model(*(value.to(device) for value in inputs))
                used += 1
        if used == 0:
            raise WithinError("There are no batches to estimate batch-norm statistics from")
        done = True
    finally:
        for layer, momentum, buffers in zip(layers, momenta, saved, strict=True):
            layer.momentum = momentum
            if not done:
                for name, buffer in layer.named_buffers():
                    buffer.copy_(buffers[name])
        for module, mode in modes:
            module.training = mode
    return used


def freeze_batch_norm(model: nn.Module) -> None:
    """Puts all batch-norm layers into evaluation mode, whatever mode the rest of the model is in."""
    for layer in batch_norms(model):
        layer.eval()


def _inputs(batch: Any) -> tuple[Tensor, ...]:
    if isinstance(batch, Tensor):
        return (batch,)
    first = batch[0]
    if isinstance(first, (tuple, list)):
        return tuple(first)
    return (first,)
