"""Magnitude: the norm of all weights that produce an atom.

    s_a = mean over producing layers of ||w_a||_p / mean_a' ||w_a'||_p

with w_a the output rows of atom a in one layer. Dividing by the layer's mean makes layers of different scale
comparable. Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, ICLR 2017 (p = 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.core.graph import Graph, Member
from within.core.graph.graph import named_tensors
from within.core.graph.producers import producers


def l1(graph: Graph, **_: Any) -> dict[str, NDArray[np.float64]]:
    """Returns the L1 norm of each atom's producing weights, relative to its layer."""
    return _norms(graph, 1)


def l2(graph: Graph, **_: Any) -> dict[str, NDArray[np.float64]]:
    """Returns the L2 norm of each atom's producing weights, relative to its layer."""
    return _norms(graph, 2)


def filter_l1(graph: Graph, **_: Any) -> dict[str, NDArray[np.float64]]:
    """Returns the sum of the L1 norms of all filters that produce an atom; biases and normalisation have no say.

    The score of Li et al. as it stands, for groups whose layers share one scale: a layer of large weights decides more.
    """
    tensors = named_tensors(graph.model)
    scores = {}
    for group in graph.channel_groups():
        filters = [member for member in producers(graph, group) if tensors[member.tensor].dim() > 1]
        layers = [_layer(member, tensors[member.tensor], group.size, 1) for member in filters]
        scores[group.name] = np.sum(layers, axis=0) if layers else np.zeros(group.size)
    return scores


def _norms(graph: Graph, power: int) -> dict[str, NDArray[np.float64]]:
    tensors = named_tensors(graph.model)
    scores = {}
    for group in graph.channel_groups():
        layers = [_layer(member, tensors[member.tensor], group.size, power) for member in producers(graph, group)]
        scores[group.name] = np.mean([norms / max(float(norms.mean()), 1e-30) for norms in layers], axis=0)
    return scores


def _layer(member: Member, tensor: torch.Tensor, size: int, power: int) -> NDArray[np.float64]:
    """Returns the norm of each atom's rows in one tensor."""
    weight = (
        tensor.detach().double().movedim(member.axis, 0).flatten(1)
        if tensor.dim() > 1
        else tensor.detach().double()[:, None]
    )
    if not torch.isfinite(weight).all():
        raise WithinError("The weights hold NaN or Inf", where=member.tensor, todo="load a sound checkpoint")
    positions = weight.abs().pow(power).sum(1).cpu().numpy()
    here = member.atoms >= 0
    summed = np.bincount(member.atoms[here], positions[here], minlength=size)
    return np.asarray(summed ** (1 / power), dtype=np.float64)
