"""Run a model and leave it as it was: its device, and eval mode with every training flag restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Puts `model` in eval mode without gradients; restores the training flag of each of its modules afterwards.

    Anything that is not an `nn.Module` is only run without gradients.
    """
    flags = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    try:
        for module, _ in flags:
            module.training = False  # not .eval(): graph modules made by torch.export refuse it
        with torch.no_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def placed(model: object, device: str | torch.device | None) -> Iterator[None]:
    """Moves `model` to a device, and back to where it was; None, and what is no `nn.Module`, stays."""
    before = device_of(model)
    moved = model if isinstance(model, nn.Module) and device is not None else None
    if moved is not None:
        moved.to(device)
    try:
        yield
    finally:
        if moved is not None:
            moved.to(before)


def device_of(model: object) -> torch.device:
    """Returns the device of the first parameter or buffer; that of anything else is the CPU."""
    if not isinstance(model, nn.Module):
        return torch.device("cpu")
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def positional(batch: Any) -> tuple[Any, ...]:
    """Returns a batch of inputs, one value or several in a tuple or list, as the positional arguments of a model."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
