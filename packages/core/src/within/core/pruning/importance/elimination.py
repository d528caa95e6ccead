"""Elimination order: the channel whose loss the next layers can repair best goes first.

Backward elimination on the layers that read a group. With S the covariance of a reader's input, W its weights and
H = S^-1 over the channels still there, removing channel c and refitting the rest (least squares) raises the output
error by

    d_c = sum over outputs of W_c (H_cc)^-1 W_c^T,   then   W <- W - W_c H_cc^-1 H_c,   H <- H - H_:c H_cc^-1 H_c:

(optimal brain surgeon, Hassibi and Stork, NeurIPS 1992, for blocks: one block is the kernel of one channel). Errors of
several readers are added, each relative to its output's energy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from within.core.graph import ChannelGroup, Graph
from within.core.pruning.reconstruction import RIDGE, consumers, feature_positions, input_axis, layer_tensors, matrix_of
from within.core.pruning.statistics import Moments


def elimination(graph: Graph, *, moments: Mapping[str, Moments]) -> dict[str, NDArray[np.float64]]:
    """Returns the rank of each atom in the elimination order (the last to go has the highest score).

    Groups that no linear layer reads fall back to the energy of nothing: all atoms score alike.
    """
    return {group.name: elimination_ranks(graph, group, moments)[0] for group in graph.channel_groups()}


def elimination_ranks(
    graph: Graph, group: ChannelGroup, moments: Mapping[str, Moments]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the ranks of a group's atoms and the relative output error after each removal, (size,) each.

    `errors[i]` is the summed relative error when i + 1 atoms are gone.
    """
    readers = []
    for op, atoms in consumers(graph, group):
        name = graph.parameters[op["weight"].name]
        if name not in moments:
            continue
        weight, bias = layer_tensors(graph, op, graph.model)
        matrix = matrix_of(op, weight)
        spread = moments[name].covariance if bias is not None else moments[name].second_moment
        energy = float(((matrix @ spread) * matrix).sum())
        ridge = RIDGE * spread.diagonal().mean().clamp_min(1e-12)
        inverse = torch.linalg.inv(spread + ridge * torch.eye(len(spread), dtype=spread.dtype))
        channels = weight.shape[input_axis(op)]
        blocks = [
            feature_positions(np.flatnonzero(atoms == atom), matrix.shape[1], channels) for atom in range(group.size)
        ]
        readers.append(_Reader(matrix.clone(), inverse, blocks, max(energy, 1e-30)))
    ranks, errors = np.zeros(group.size), np.zeros(group.size)
    left = list(range(group.size))
    total = 0.0
    for position in range(group.size):
        costs = np.zeros(len(left))
        for reader in readers:
            costs += reader.costs(left)
        best = int(np.argmin(costs))
        total += float(costs[best])
        atom = left.pop(best)
        ranks[atom], errors[position] = position, total
        if left:
            for reader in readers:
                reader.remove(atom)
    return ranks, errors


class _Reader:
    """A layer during elimination: its current weights and the inverse second moment of what it still reads."""

    def __init__(self, matrix: Tensor, inverse: Tensor, blocks: list[Tensor], energy: float) -> None:
        self.matrix, self.inverse, self.blocks, self.energy = matrix, inverse, blocks, energy

    def costs(self, atoms: list[int]) -> NDArray[np.float64]:
        """Returns the relative error that removing each atom would add."""
        size = len(self.blocks[0])
        features = torch.stack([self.blocks[atom] for atom in atoms])  # (atoms, block)
        inner = self.inverse[features[:, :, None], features[:, None, :]]
        weights = self.matrix[:, features].permute(1, 2, 0)  # (atoms, block, outputs)
        jitter = 1e-12 * inner.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(size, dtype=inner.dtype)
        solved = torch.linalg.solve(inner + jitter, weights)
        costs: NDArray[np.float64] = (weights * solved).sum((1, 2)).numpy() / self.energy
        return costs

    def remove(self, atom: int) -> None:
        """Refits the other channels and forgets this one."""
        block = self.blocks[atom]
        inner = self.inverse[block][:, block]
        rows = torch.linalg.solve(inner, self.inverse[block])  # H_cc^-1 H_c:
        self.matrix -= self.matrix[:, block] @ rows
        self.inverse -= self.inverse[:, block] @ rows
        self.matrix[:, block] = 0
        self.inverse[block] = 0
        self.inverse[:, block] = 0
        self.inverse[block, block] = 1
