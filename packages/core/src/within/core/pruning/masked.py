"""The masked dense model: the reference that a slim model must equal.

All parameters of removed atoms are set to zero in the dense model. Where an operator's result depends on which
channels exist (layer and group normalisation, softmax or means over channels), the reference computes it over the kept
channels. Everything else is the dense computation, so an error in an index map shows as a difference.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from within.core.graph import Graph
from within.core.graph.graph import Kept
from within.core.graph.operator import shape_of, tensor_of
from within.core.graph.rewrite import Rewrite
from within.core.pruning.slim import random_like, relative_difference, tensors


class MaskedReference:
    """Runs the dense graph of a model with the removed atoms masked."""

    def __init__(self, graph: Graph, kept: Kept) -> None:
        self.graph = graph
        self.rewrite = Rewrite(graph, graph.keep_masks(kept))
        self.sensitive = graph.coupling.sensitive
        self.zeroing = graph.coupling.mixing | graph.coupling.contracting
        self.operators = {op.name: op for op in graph.operators}

    def __call__(self, *inputs: Any) -> list[torch.Tensor]:
        """Returns the output tensors of the masked dense model."""
        state = self._masked_state()
        values: dict[fx.Node, Any] = {}
        remaining = list(inputs)
        with torch.no_grad():
            for node in self.graph.fx_graph.nodes:
                if node.op == "placeholder":
                    name = self.graph.parameters.get(node.name)
                    values[node] = state[name] if name is not None else remaining.pop(0)
                elif node.op == "call_function":
                    values[node] = self._run(node, values)
                elif node.op == "output":
                    return [item for item in fx.map_arg(node.args[0], lambda item: values[item]) if _is_tensor(item)]
        raise AssertionError("a graph ends with its output")

    def _masked_state(self) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = dict(self.graph.program.state_dict)
        state |= {name: item for name, item in self.graph.program.constants.items() if isinstance(item, torch.Tensor)}
        state |= dict(self.graph.model.named_parameters()) | dict(self.graph.model.named_buffers())
        masked = {}
        for value, name in self.graph.parameters.items():
            tensor = state[name].detach().clone()
            node = self.graph.nodes[value]
            for axis in self.graph.axes.get(value, {}):
                if self.rewrite.changed(node, axis):
                    gone = torch.ones(tensor.shape[axis], dtype=torch.bool, device=tensor.device)
                    gone[torch.from_numpy(self.rewrite.kept(node, axis)).to(tensor.device)] = False
                    tensor.index_fill_(axis, gone.nonzero().flatten(), 0)
            masked[name] = tensor
        return masked

    def _run(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        target = node.target
        assert callable(target)
        if node.name not in self.sensitive:
            given = {
                item: self._zeroed(item, values[item]) if node.name in self.zeroing else values[item]
                for item in node.all_input_nodes
            }
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda item: given[item])
            return target(*args, **kwargs)
        given = {item: self._compact(item, values[item]) for item in node.all_input_nodes}
        op = self.operators[node.name]
        changed = {**op.arguments, **self.rewrite.arguments.get(node.name, {})}
        result = target(**fx.map_arg(changed, lambda item: given[item]))
        if isinstance(result, torch.Tensor):
            return self._scatter(node.name, shape_of(node), result)
        return tuple(
            self._scatter(f"{node.name}:{position}", self.graph.shapes[f"{node.name}:{position}"], item)
            for position, item in enumerate(result)
        )

    def _compact(self, node: fx.Node, value: Any) -> Any:
        if tensor_of(node) is None:
            return value
        for axis in self.graph.axes.get(node.name, {}):
            if self.rewrite.changed(node, axis):
                value = value.index_select(axis, torch.from_numpy(self.rewrite.kept(node, axis)).to(value.device))
        return value

    def _zeroed(self, node: fx.Node, value: Any) -> Any:
        if tensor_of(node) is None:
            return value
        return self._scatter(node.name, shape_of(node), self._compact(node, value))

    def _scatter(self, name: str, shape: tuple[int, ...], value: torch.Tensor) -> torch.Tensor:
        for axis, index in self.graph.axes.get(name, {}).items():
            if value.shape[axis] != shape[axis]:
                sizes = list(value.shape)
                sizes[axis] = shape[axis]
                full = value.new_zeros(sizes)
                value = full.index_copy(axis, torch.from_numpy(index.kept(self.rewrite.keep)).to(value.device), value)
        return value


def masked_slim_error(graph: Graph, kept: Kept, slim_model: nn.Module) -> float:
    """Returns max |slim - masked dense| / max |masked dense| on reproducible random inputs."""
    inputs = random_like(graph.inputs)
    reference = MaskedReference(graph, kept)(*inputs)
    training = slim_model.training
    slim_model.eval()
    with torch.no_grad():
        result = tensors(slim_model(*inputs))
    slim_model.train(training)
    return max(relative_difference(a, b) for a, b in zip(result, reference, strict=True))


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
