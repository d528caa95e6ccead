"""The user's own dense model with the output side of every removed atom set to zero.

Weights, biases, and scales and shifts of batch normalisation (running statistics stay): with activations that map zero
to zero the removed channels are then zero everywhere, and the user's own `forward` must compute what the slim model
does. Which positions these are is read off the parameters' own index maps; everything after them is the user's code,
but for layer and group normalisation modules, whose statistics are taken over the channels whose scale was kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from within.core.graph import Graph
from within.core.graph.operator import Operator

OUTPUT_AXIS = {
    (nn.Linear, "weight"): 0,
    (nn.Embedding, "weight"): 1,
    (nn.Conv1d, "weight"): 0,
    (nn.Conv2d, "weight"): 0,
    (nn.Conv3d, "weight"): 0,
    (nn.ConvTranspose1d, "weight"): 1,
    (nn.ConvTranspose2d, "weight"): 1,
    (nn.ConvTranspose3d, "weight"): 1,
}


def is_exact(graph: Graph) -> bool:
    """Whether zeros in place of removed channels, and normalisation over kept ones, change no other channel."""
    modules = dict(graph.model.named_modules())
    operators = {op.name: op for op in graph.operators}
    for name in graph.coupling.sensitive:
        module = modules.get(operators[name].module)
        if not isinstance(module, (nn.LayerNorm, nn.GroupNorm)) or module.weight is None:
            return False
    return not any(_adds_to_all_channels(graph, op) for op in graph.operators)


def _adds_to_all_channels(graph: Graph, op: Operator) -> bool:
    """A convolution with channels along its positions (CoaT's sum over scales) adds one bias to removed ones too."""
    if not op.kind.startswith("conv") or op.get("bias") is None:
        return False
    axes = graph.axes.get(op["input"].name, {})
    return any(index.counts and axis > 1 for axis, index in axes.items())


def zero_producers(model: nn.Module, graph: Graph, kept: Mapping[str, Sequence[int]]) -> None:
    """Zeroes them in place, and makes normalisation modules take their statistics over what is left.

    Arguments:
        model: a copy of the traced model.
        graph: its graph.
        kept: atoms kept in each group that shrinks.
    """
    parameters = dict(model.named_parameters())
    masks = {group.name: torch.zeros(group.size, dtype=torch.bool) for group in graph.channel_groups()}
    for group in graph.channel_groups():
        masks[group.name][list(kept.get(group.name, range(group.size)))] = True
        for member in group.parameters:
            axis = _output_axis(model, member.tensor)
            if member.tensor in parameters and (axis is None or axis == member.axis):
                atoms = torch.from_numpy(member.atoms)
                gone = (atoms >= 0) & ~masks[group.name][atoms.clamp(min=0)]
                with torch.no_grad():
                    parameters[member.tensor].index_fill_(member.axis, gone.nonzero().flatten(), 0)

    for name, module in model.named_modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)) and module.weight is not None:
            gone = _gone(graph, f"{name}.weight", masks)
            if gone is not None:
                module.register_forward_hook(partial(_normalise_kept, ~gone))


def _gone(graph: Graph, name: str, masks: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Returns which positions of a parameter's first axis are removed; None where nothing is."""
    gone: torch.Tensor | None = None
    for group in graph.channel_groups():
        for member in group.parameters:
            if (member.tensor, member.axis) == (name, 0):
                atoms = torch.from_numpy(member.atoms)
                here = (atoms >= 0) & ~masks[group.name][atoms.clamp(min=0)]
                gone = here if gone is None else gone | here
    return gone if gone is not None and gone.any() else None


def _normalise_kept(
    kept: torch.Tensor, module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor
) -> torch.Tensor:
    """Layer or group normalisation with mean and variance over the kept channels only."""
    source = inputs[0]
    groups = 1
    if isinstance(module, nn.GroupNorm):
        groups, axis = module.num_groups, 1
        axes = list(range(1, source.dim()))
    else:
        axis = 1 if "2d" in type(module).__name__ else source.dim() - 1  # timm's LayerNorm2d normalises axis one
        axes = [axis]
    along = [1] * source.dim()
    along[axis] = -1
    weight, bias = module.weight, module.bias
    parts = []
    for part, mask in zip(source.chunk(groups, axis), kept.chunk(groups), strict=True):
        chosen = part[(slice(None),) * axis + (mask,)]
        variance, mean = torch.var_mean(chosen, axes, correction=0, keepdim=True)
        parts.append((part - mean) / torch.sqrt(variance + module.eps))
    shift = bias.view(along) if bias is not None else 0
    return torch.cat(parts, axis) * weight.view(along) + shift


def _output_axis(model: nn.Module, name: str) -> int | None:
    """Returns the axis of a layer's weight that produces channels; None for a parameter of which every axis counts."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    for (kind, parameter), axis in OUTPUT_AXIS.items():
        if isinstance(module, kind) and leaf == parameter:
            return axis
    return None
