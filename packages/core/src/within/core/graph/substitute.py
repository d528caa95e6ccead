"""Runs a model with other tensors in place of its parameters and buffers, and leaves the model as it was.

`torch.func.functional_call` puts a tensor in once for every name. A module that is registered under two names then
remembers the substitute as its own and keeps it afterwards; here every module is visited once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from within.core.graph.graph import first_names


def call_with(model: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Any]) -> Any:
    """Returns `model(*inputs)` computed with the tensors of `state`.

    Arguments:
        model: any module; tensors that are shared under several names are looked up by the first of them.
        state: a tensor for every parameter and buffer, by qualified name (see `substitutes`).
        inputs: positional arguments.

    Raises:
        KeyError: when `state` lacks a tensor.
    """
    first = first_names(model)
    slots: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        for own in (module._parameters, module._buffers):
            for leaf, tensor in own.items():
                if tensor is not None:
                    name = f"{prefix}.{leaf}" if prefix else leaf
                    slots[name] = state[first[name]]
    return torch.func.functional_call(model, slots, tuple(inputs), tie_weights=False)


def substitutes(model: nn.Module, make: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Returns `make(tensor)` for every parameter and buffer of a model, by its first name."""
    return {name: make(tensor) for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
