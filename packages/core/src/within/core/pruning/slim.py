"""Cuts a model down to the kept atoms of every group: a plain module where its `forward` allows it, else a graph.

The graph module is right by construction: every hard-coded size in it was edited. The plain module, the user's own
class with smaller tensors and attributes, is preferred and returned when it computes exactly the same.
"""

from __future__ import annotations

import copy
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from within.core.errors import WithinError
from within.core.graph import Graph, trace
from within.core.graph.graph import Kept, first_names
from within.core.graph.rewrite import Rewrite
from within.core.graph.substitute import call_with

TOLERANCE = 1e-5


def slim(graph: Graph, kept: Kept, *, prefer: str = "module") -> nn.Module:
    """Returns the model of a graph with only the kept atoms.

    Arguments:
        graph: the traced dense model (not modified).
        kept: kept atom indices of each group that shrinks, by group name.
        prefer: "module" for the plain module where possible, "graph" for the graph module always.

    Raises:
        WithinError: when a group is unknown, or nothing would be left of one.
    """
    for name, atoms in kept.items():
        size = graph.group(name).size
        if not len(atoms) or min(atoms) < 0 or max(atoms) >= size or len(set(atoms)) != len(atoms):
            raise WithinError(f"The kept atoms must be 1 to {size} distinct numbers from 0 to {size - 1}", where=name)
    rewrite = Rewrite(graph, graph.keep_masks(kept))
    if prefer == "module" and not isinstance(graph.model, torch.fx.GraphModule):
        plain = plain_module(graph, rewrite)
        if _same(plain, rewrite.module(), graph):
            return plain
    return graph_module(graph, kept)


def graph_module(graph: Graph, kept: Kept) -> torch.fx.GraphModule:
    """Returns the cut model as a graph module with symbolic batch and spatial sizes where the model permits.

    Warns of sizes that stay those of the example inputs.
    """
    dynamic = trace(graph.model, graph.inputs, dynamic=True, heads=graph.heads, grouped=graph.grouped)
    for note in dynamic.notes:
        warnings.warn(f"The cut model takes some sizes only as traced. {note}", stacklevel=3)
    if not _same_groups(dynamic, graph):  # the groups must be those that the decision was made for
        warnings.warn("The cut model takes inputs of the traced sizes only", stacklevel=3)
        dynamic = graph
    return Rewrite(dynamic, dynamic.keep_masks(kept)).module()


def _same_groups(first: Graph, second: Graph) -> bool:
    """Whether two traces of one model have the same groups, of the same parameters in the same order of atoms."""

    def parameters(graph: Graph) -> dict[str, dict[tuple[str, int], bytes]]:
        return {
            group.name: {(member.tensor, member.axis): member.atoms.tobytes() for member in group.parameters}
            for group in graph.channel_groups()
        }

    return parameters(first) == parameters(second)


def plain_module(graph: Graph, rewrite: Rewrite) -> nn.Module:
    """Returns a copy of the user's module with sliced parameters and buffers and updated size attributes."""
    model = copy.deepcopy(graph.model)
    state = rewrite.sliced_state()
    shared: dict[int, list[str]] = {}  # a tensor that is shared under several names stays shared
    tensors_of: dict[int, torch.Tensor] = {}
    for named in (model.named_parameters, model.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            shared.setdefault(id(tensor), []).append(name)
            tensors_of[id(tensor)] = tensor
    for identity, names in shared.items():
        old = tensors_of[identity]
        new = next((state[name] for name in names if name in state and state[name].shape != old.shape), None)
        if new is None:
            continue
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        for name in names:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, new)
    groups = _convolution_groups(graph, rewrite)
    first = first_names(graph.model)
    for name, module in model.named_modules():
        weight = f"{name}.weight" if name else "weight"
        update_attributes(module, groups.get(first.get(weight, weight)))
    return model


def update_attributes(module: nn.Module, groups: int | None = None) -> None:
    """Makes the size attributes of a standard layer agree with its tensors."""
    if isinstance(module, nn.modules.conv._ConvNd):
        if groups is not None:
            module.groups = groups
        first, second = module.weight.shape[0], module.weight.shape[1] * module.groups
        if module.transposed:
            module.in_channels, module.out_channels = first, second
        else:
            module.out_channels, module.in_channels = first, second
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        found = module.weight if module.weight is not None else module.running_mean
        if found is not None:
            module.num_features = len(found)
    elif isinstance(module, nn.GroupNorm):
        if module.weight is not None:
            module.num_channels = len(module.weight)
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        if module.weight is not None:
            module.normalized_shape = tuple(module.weight.shape)
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.RNNBase):
        weight = module.weight_hh_l0
        assert isinstance(weight, torch.Tensor)
        module.hidden_size = weight.shape[1]
        weight_in = module.weight_ih_l0
        assert isinstance(weight_in, torch.Tensor)
        module.input_size = weight_in.shape[1]


def _convolution_groups(graph: Graph, rewrite: Rewrite) -> dict[str, int]:
    found = {}
    for op in graph.operators:
        changed = rewrite.arguments.get(op.name, {}).get("groups")
        if changed is not None and op["weight"].name in graph.parameters:
            found[graph.parameters[op["weight"].name]] = changed
    return found


def _same(plain: nn.Module, reference: nn.Module, graph: Graph) -> bool:
    """Whether two cut models compute the same, with parameters that let every branch count.

    With the model's own parameters the answer could be an accident: what a fresh model starts at zero (the last scale
    of a residual branch, say) would hide whatever stands before it, and a plan replayed on a fresh model must choose
    as it was chosen when it was made.
    """
    inputs, state = random_like(graph.inputs), _lively(reference)
    was_training = plain.training
    plain.eval()
    reference.eval()
    try:
        with torch.no_grad():
            first, second = (tensors(call_with(module, state, inputs)) for module in (plain, reference))
    except Exception:  # the user's forward may fail in any way on sizes it hard-codes
        return False
    finally:
        plain.train(was_training)
    return len(first) == len(second) and all(
        relative_difference(a, b) < TOLERANCE for a, b in zip(first, second, strict=True)
    )


def _lively(module: nn.Module) -> dict[str, torch.Tensor]:
    """Returns a state in which no scale, shift or statistic is zero, tiny or equal for all channels."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    first = first_names(module)
    for named in (module.named_parameters, module.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            if first[name] != name:
                state[name] = state[first[name]]
                continue
            value = tensor.detach()
            if value.is_floating_point() and value.dim() <= 1 and value.numel():
                noise = torch.rand(value.shape, generator=generator).to(value)
                value = noise + 0.5 if bool((value > 0).all()) else value + 0.2 * noise - 0.1
            elif value.is_floating_point() and not value.any():
                value = 0.2 * torch.rand(value.shape, generator=generator).to(value) - 0.1
            state[name] = value
    return state


def random_like(inputs: tuple[object, ...]) -> tuple[object, ...]:
    """Returns inputs of the same shapes filled with reproducible noise (integers are kept)."""
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.rand(item.shape, generator=generator).to(item)
        if isinstance(item, torch.Tensor) and item.is_floating_point()
        else item
        for item in inputs
    )


def tensors(output: object) -> list[torch.Tensor]:
    """Returns the tensors inside an output structure."""
    return [item for item in torch.utils._pytree.tree_leaves(output) if isinstance(item, torch.Tensor)]


def relative_difference(first: torch.Tensor, second: torch.Tensor) -> float:
    """Returns max |first - second| / max |second| (infinite for different shapes or values that are not finite)."""
    if first.shape != second.shape:
        return float("inf")
    if not first.numel():
        return 0.0
    scale = float(second.abs().max())
    difference = float((first - second).abs().max())
    if not np.isfinite(difference):
        return float("inf")
    return difference / max(scale, 1e-30)


def kept_positions(graph: Graph, keep: list[NDArray[np.bool_]]) -> dict[str, dict[int, list[int]]]:
    """Returns the dense indices that stay, of every parameter axis that is cut: {parameter: {axis: indices}}."""
    vector = np.array([int(mask.sum()) for mask in keep], dtype=np.int64)
    record: dict[str, dict[int, list[int]]] = {}
    for value, name in graph.parameters.items():
        for axis, index in graph.axes.get(value, {}).items():
            if index.size(vector) != len(index.groups):
                record.setdefault(name, {})[axis] = index.kept(keep).tolist()
    return record
