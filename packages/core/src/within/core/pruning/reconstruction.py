"""Least-squares repair: each layer that loses inputs gets the weights that best reproduce its old output.

    min_W' E || W x - W' x_K - b' + b ||^2   =>   W' = W S[:, K] (S[K, K] + lambda I)^-1,   b' = b + (W - W' P_K) E[x]

with S the covariance of the layer's input patches and K the features that stay (the second moment instead of the
covariance where the layer has no bias). This includes mean compensation of the bias as its first-order term.
He, Zhang, Sun: Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017 (eq. 1, the reconstruction step).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from within.core.graph import ChannelGroup, Graph, Operator
from within.core.graph.emission import carry_attributes
from within.core.graph.graph import Kept, named_tensors
from within.core.pruning.statistics import Moments, linear_operators

RIDGE = 1e-4


def reconstruct(graph: Graph, kept: Kept, moments: Mapping[str, Moments]) -> nn.Module:
    """Returns a copy of the dense model whose layers are fitted to the inputs that stay (cut it with `slim` next).

    Arguments:
        graph: the dense graph.
        kept: kept atoms of each group that shrinks.
        moments: from `statistics.input_moments`.
    """
    model = copy.deepcopy(graph.model)
    carry_attributes(graph.model, model)
    keep = graph.keep_masks(kept)
    with torch.no_grad():
        for op in first_uses(graph):
            weight, bias = layer_tensors(graph, op, model)
            axis = input_axis(op)
            index = graph.axes.get(op["weight"].name, {}).get(axis)
            name = graph.parameters[op["weight"].name]
            if index is None or name not in moments:
                continue
            positions = index.kept(keep)
            if len(positions) == weight.shape[axis]:
                continue
            fitted, shift, _ = fit_layer(
                matrix_of(op, weight), bias is not None, moments[name], positions, weight.shape[axis]
            )
            weight.copy_(weight_of(op, fitted, weight))
            if bias is not None and shift is not None and op.kind != "conv_transpose2d":
                bias.add_(shift.to(bias))
    return model


def fit_layer(
    matrix: Tensor, has_bias: bool, moments: Moments, channels: NDArray[np.int64], layer_channels: int
) -> tuple[Tensor, Tensor | None, float]:
    """Fits a layer to some of its input channels.

    Arguments:
        matrix: the layer's weights, (outputs, features), float64, features ordered (channel, kernel position).
        has_bias: whether the bias may move.
        moments: of the layer's input.
        channels: the channels that stay.
        layer_channels: how many channels the layer reads.

    Returns:
        the fitted matrix (columns of removed channels are zero), the bias shift, and the residual relative to the
        output's energy.
    """
    spread = moments.covariance if has_bias else moments.second_moment
    features = feature_positions(channels, matrix.shape[1], layer_channels)
    inner = spread[features][:, features]
    ridge = RIDGE * inner.diagonal().mean().clamp_min(1e-12)
    system = inner + ridge * torch.eye(len(features), dtype=inner.dtype)
    solved = torch.linalg.solve(system, spread[features] @ matrix.T).T  # (outputs, kept features)
    fitted = torch.zeros_like(matrix)
    fitted[:, features] = solved
    lost = matrix - fitted
    energy = float(((matrix @ spread) * matrix).sum())
    residual = float(((lost @ spread) * lost).sum()) / max(energy, 1e-30)
    shift = lost @ moments.mean if has_bias else None
    return fitted, shift, max(residual, 0.0)


def feature_positions(channels: NDArray[np.int64], features: int, layer_channels: int) -> Tensor:
    """Returns the feature indices of channels; each channel has a block of `features / layer_channels` of them."""
    block = features // layer_channels
    positions = np.asarray(channels, dtype=np.int64)[:, None] * block + np.arange(block)
    return torch.from_numpy(positions.reshape(-1))


def first_uses(graph: Graph) -> list[Operator]:
    """Returns the linear operators, each weight once (a shared layer at its first call)."""
    seen: dict[str, Operator] = {}
    for op in linear_operators(graph):
        seen.setdefault(graph.parameters[op["weight"].name], op)
    return list(seen.values())


def input_axis(op: Operator) -> int:
    """Returns the input axis of a layer's weight."""
    return 0 if op.kind.startswith("conv_transpose") else 1


def layer_tensors(graph: Graph, op: Operator, model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Returns weight and bias of a layer in `model`, by the names they have in the graph."""
    own = named_tensors(model)
    weight = own[graph.parameters[op["weight"].name]]
    bias = op.get("bias")
    return weight, own.get(graph.parameters.get(bias.name, "")) if bias is not None else None


def matrix_of(op: Operator, weight: Tensor) -> Tensor:
    """Returns the weights as (outputs, channels x kernel positions); for transposed layers (out x kernel, channels)."""
    if op.kind.startswith("conv_transpose"):
        return weight.detach().double().flatten(1).T.contiguous()
    return weight.detach().double().flatten(1)


def weight_of(op: Operator, matrix: Tensor, like: Tensor) -> Tensor:
    """The inverse of `matrix_of`."""
    if op.kind.startswith("conv_transpose"):
        return matrix.T.reshape(like.shape).to(like)
    return matrix.reshape(like.shape).to(like)


def consumers(graph: Graph, group: ChannelGroup) -> list[tuple[Operator, NDArray[np.int64]]]:
    """Returns the layers that read a group, each with the atom of every input channel (-1 for other channels)."""
    atoms = {(member.tensor, member.axis): member.atoms for member in group.parameters}
    found = []
    for op in first_uses(graph):
        key = (graph.parameters[op["weight"].name], input_axis(op))
        if key in atoms:
            found.append((op, atoms[key]))
    return found
