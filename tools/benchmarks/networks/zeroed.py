"""The user's own dense model with the output side of every removed atom set to zero.

Weights, biases, and scales and shifts of batch normalisation (running statistics stay): with activations that map zero
to zero the removed channels are then zero everywhere, and the user's own `forward` must compute what the slim model
does. Which positions these are is read off the parameters' own index maps; everything after them is the user's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from within.core.graph import Graph

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


def zero_producers(model: nn.Module, graph: Graph, kept: Mapping[str, Sequence[int]]) -> None:
    """Zeroes them in place.

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


def _output_axis(model: nn.Module, name: str) -> int | None:
    """Returns the axis of a layer's weight that produces channels; None for a parameter of which every axis counts."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    for (kind, parameter), axis in OUTPUT_AXIS.items():
        if isinstance(module, kind) and leaf == parameter:
            return axis
    return None
