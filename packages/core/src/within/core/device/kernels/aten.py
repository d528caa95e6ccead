"""A kernel that is one ATen operator, as a module."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from within.core.device.kernels.kernel import Kernel


class AtenModule(nn.Module):
    """One ATen operator with its numbers fixed; its activations are the arguments of `forward`, its weights buffers."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.call: dict[str, Any] = json.loads(kernel.setting("call"))
        self.count = len(kernel.inputs)
        for position, shape in enumerate(kernel.constants):
            self.register_buffer(f"weight{position}", torch.full(shape, 0.01))
        namespace, name, overload = self.call["target"].split(".")
        self.operator = getattr(getattr(getattr(torch.ops, namespace), name), overload)

    def forward(self, *inputs: Tensor) -> Any:
        """Runs the operator."""
        tensors = [*inputs, *self.buffers()]

        def value(plain: Any) -> Any:
            if isinstance(plain, list):
                return [value(item) for item in plain]
            if isinstance(plain, dict):
                return tensors[plain["tensor"]] if "tensor" in plain else getattr(torch, plain["dtype"])
            return plain

        positional, keywords = [], {}
        for argument in self.operator._schema.arguments:
            given = value(self.call["arguments"].get(argument.name))
            if argument.kwarg_only:
                keywords[argument.name] = given
            else:
                positional.append(given)
        return self.operator(*positional, **{name: given for name, given in keywords.items() if given is not None})
