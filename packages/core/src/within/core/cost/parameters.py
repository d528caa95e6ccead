"""Parameters and bytes of a model: every tensor once, however often it is shared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from within.core.cost.cost import Decision, vector_of
from within.core.graph import Graph


def _sizes(graph: Graph, decision: Decision, *, persistent: bool) -> int:
    vector = vector_of(graph, decision)
    values = {qualified: value for value, qualified in graph.parameters.items()}
    tensors: dict[str, torch.Tensor] = dict(graph.model.named_parameters())
    if persistent:
        saved = graph.model.state_dict()
        tensors |= {name: buffer for name, buffer in graph.model.named_buffers() if name in saved}
    total = 0
    for name, tensor in tensors.items():
        value = values.get(name)
        count = tensor.numel() if value is None else math.prod(graph.shape(value, vector))
        total += count * tensor.element_size() if persistent else count
    return total


@dataclass(frozen=True)
class Params:
    """Learnable parameters."""

    name: str = "parameters"
    unit: str = "parameters"

    def __call__(self, graph: Graph, decision: Decision = None) -> int:
        """Returns the number of learnable parameters under a decision."""
        return _sizes(graph, decision, persistent=False)


@dataclass(frozen=True)
class ModelBytes:
    """Bytes of everything that is saved with the model: parameters and persistent buffers in their own types."""

    name: str = "model size"
    unit: str = "bytes"

    def __call__(self, graph: Graph, decision: Decision = None) -> int:
        """Returns the bytes of all saved tensors under a decision."""
        return _sizes(graph, decision, persistent=True)
