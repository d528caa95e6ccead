"""Run a model for inference and leave it as it was: eval mode and no gradients inside, every training flag restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


def positional(batch: Any) -> tuple[Any, ...]:
    """Returns a batch of inputs, one value or several in a tuple or list, as the positional arguments of a model."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
