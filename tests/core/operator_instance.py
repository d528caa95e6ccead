"""One operator on concrete operands, with the labels that its rule gave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from within.core.graph.coupling import Coupling
from within.core.graph.operator import Operator, read_operators
from within.core.graph.rules import rule_of


def randoms(*shape: int, seed: int = 0) -> torch.Tensor:
    """Values where logarithms and arc functions are defined, and rounding functions are constant."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.rand(shape, generator=generator) * 0.7 + 0.1


@dataclass
class Instance:
    """One operator on concrete tensors, with the labels that its rule gave them."""

    op: Operator
    tensors: dict[str, torch.Tensor]
    coupling: Coupling

    def run(self, tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        given = {name: tensor.clone() for name, tensor in tensors.items()}
        node = self.op.node
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda item: given[item.name])
        torch.manual_seed(0)
        result = node.target(*args, **kwargs)
        return [item for item in (result if isinstance(result, (tuple, list)) else [result]) if torch.is_tensor(item)]

    def masks(self, name: str, shape: torch.Size, label_class: int) -> torch.Tensor:
        """Positions of a tensor that carry a class."""
        found = torch.zeros(shape, dtype=torch.bool)
        for component in self.coupling.values.get(name, ()):
            here = torch.from_numpy(self.coupling.sets.find(component.ids) == label_class)
            index = [shape[axis] if axis in component.axes else 1 for axis in range(len(shape))]
            found |= here.reshape(index)
        return found

    def classes(self, name: str) -> set[int]:
        parts = [self.coupling.sets.find(component.ids).ravel() for component in self.coupling.values.get(name, ())]
        return set(np.concatenate(parts).tolist()) if parts else set()

    def output_names(self, count: int) -> list[str]:
        several = isinstance(self.op.node.meta["val"], (tuple, list))
        return [f"{self.op.name}:{position}" for position in range(count)] if several else [self.op.name]


def instance(target: Any, *arguments: Any, fixed: tuple[int, ...] = (), **options: Any) -> Instance:
    """Builds the graph of one operator; every floating-point tensor has fresh labels, but those numbered `fixed`."""
    graph, tensors, coupling = fx.Graph(), {}, Coupling()

    def place(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            node = graph.placeholder(f"operand_{len(tensors)}")
            node.meta["val"] = value
            if value.is_floating_point() and len(tensors) not in fixed:
                coupling.fresh(node.name, tuple(value.shape))
            tensors[node.name] = value
            return node
        return [place(item) for item in value] if isinstance(value, (list, tuple)) else value

    args = tuple(place(value) for value in arguments)
    kwargs = {name: place(value) for name, value in options.items()}
    node = graph.call_function(target, args, kwargs)
    given = fx.map_arg((args, kwargs), lambda item: tensors[item.name].clone())
    torch.manual_seed(0)
    node.meta["val"] = target(*given[0], **given[1])
    (op,) = read_operators(graph)
    found = rule_of(op)
    assert found is not None
    found.couple(coupling, op)
    return Instance(op, tensors, coupling)
