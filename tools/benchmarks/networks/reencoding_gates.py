"""The published way to train GATES on NAS-Bench-201, written anew from its equations, as a partner in time.

Every pair of a batch is encoded again, both of its architectures, and each edge computes the gate of its operation by
itself: op_emb[a] U + u, sigmoid, times the sender's information, for all 4 x 4 pairs of nodes. Ning et al., ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from within.nas.losses import MARGIN, pairs
from within.nas.spaces import Architecture
from within.nas.spaces.nasbench201 import EDGES, NODES


class ReencodingGates(nn.Module):
    """A predictor with the weights of ours, which it shares."""

    def __init__(self, predictor: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = predictor.encoder, predictor.head

    def forward(self, matrices: Tensor) -> Tensor:
        """Returns a score for each matrix of operations, (batch, to, from)."""
        ours = self.encoder
        x = ours.start(torch.stack([ours.input, *[ours.others] * (NODES - 1)])).expand(len(matrices), -1, -1)
        embedded = F.embedding(matrices, ours.operations.weight)  # batch, to, from, width
        there = (matrices != 0)[..., None].to(x.dtype)
        stays = torch.zeros(NODES, 1, dtype=x.dtype)
        stays[0] = 1
        for number, (transform, gate) in enumerate(zip(ours.transforms, ours.gates, strict=True)):
            sent = transform(x)
            x = (torch.sigmoid(gate(embedded)) * there * sent[:, None]).sum(2) + stays * sent
            if number < len(ours.transforms) - 1:
                x = F.relu(x)
        return self.head(x[:, -1])[:, 0]


def matrices(architectures: Sequence[Architecture]) -> Tensor:
    """Returns the operations as (architectures, to, from)."""
    found = torch.zeros(len(architectures), NODES, NODES, dtype=torch.int64)
    genes = torch.tensor(architectures)
    for number, (before, after) in enumerate(EDGES):
        found[:, after, before] = genes[:, number]
    return found


def pair_loss(network: ReencodingGates, cells: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
    """Returns the hinge loss of pairs, both architectures of each encoded for it."""
    first, second = network(cells[chosen[0]]), network(cells[chosen[1]])
    sign = torch.sign(labels[chosen[1]] - labels[chosen[0]])
    return F.relu(MARGIN - sign * (second - first)).mean()


def epoch(network: ReencodingGates, optimizer: torch.optim.Optimizer, cells: Tensor, labels: Tensor, size: int) -> None:
    """Trains for one epoch."""
    network.train()
    for rows in torch.randperm(len(cells)).split(size):
        optimizer.zero_grad()
        pair_loss(network, cells[rows], labels[rows], pairs(labels[rows])).backward()
        optimizer.step()
