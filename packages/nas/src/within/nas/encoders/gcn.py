"""A graph convolutional encoder: operations are nodes, linked where one follows the other.

    X_{l+1} = relu(A' X_l W_l + b_l),   A' = A + I;   the embedding is the mean over the nodes

A global node, linked from all others, may be added. Kipf and Welling: Semi-Supervised Classification with Graph
Convolutional Networks, ICLR 2017; as the baseline of GATES (Ning et al., ECCV 2020). For operations on edges the graph
is the line graph of the cell.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


class GcnEdgeEncoder(nn.Module):
    """See the module.

    Arguments:
        edges: from and to of each gene's edge.
        operations: values of a gene.
        operation_width: of the operations' embeddings.
        widths: of the layers.
        global_node: add one.
    """

    def __init__(
        self,
        edges: Sequence[tuple[int, int]],
        operations: int,
        *,
        operation_width: int = 48,
        widths: Sequence[int] = (128,) * 5,
        global_node: bool = False,
    ) -> None:
        super().__init__()
        self.operations = nn.Embedding(operations, operation_width)
        self.virtual = nn.Parameter(torch.zeros(operation_width)) if global_node else None
        count = len(edges) + global_node
        links = torch.eye(count)
        for (one, (_, end)), (two, (begin, _)) in itertools.product(enumerate(edges), repeat=2):
            if end == begin:
                links[two, one] = 1
        if global_node:
            links[-1] = 1
        self.register_buffer("links", links, persistent=False)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise((operation_width, *widths)))
        self.embedding_width = widths[-1]

    links: Tensor

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each."""
        x = self.operations(architectures)
        if self.virtual is not None:
            x = torch.cat([x, self.virtual.expand(len(x), 1, -1)], dim=1)
        for number, layer in enumerate(self.layers):
            x = layer(self.links @ x)
            if number < len(self.layers) - 1:
                x = F.relu(x)
        return x.mean(1)
