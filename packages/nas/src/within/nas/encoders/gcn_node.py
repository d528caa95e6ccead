"""A graph convolutional encoder for cells with operations on vertices, as a baseline of GATES.

    X_1 = E[op] W_0 + b_0;   X_{l+1} = relu(A' X_l W_l + b_l), not after the last layer;   A'[to, from]

Operations are what the vertices know at first, instead of what they do. The embedding is the mean over all vertices but
the input, where padding counts as zeros; or that of the output, or of the global node where there is one. A global node
hears every vertex that is no padding, and tells nothing. A' = A + I, or D^-1/2 (A + I) D^-1/2 with the degrees of what
comes in. Kipf and Welling: Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017; as used by Ning
et al.: GATES, ECCV 2020. The published number of layers is not known; four here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from within.core.errors import WithinError


class GcnNodeEncoder(nn.Module):
    """See the module; architectures are edges, row by row of the upper triangle, and operations of inner vertices.

    Arguments:
        vertices: of a cell, input and output included.
        operations: values of a vertex's gene; the last one is padding.
        operation_width, start_width: of the operations' embeddings, of the first linear layer.
        widths: of the layers.
        global_node: add one.
        self_loops: add I to the adjacency.
        normalised: divide by the roots of the degrees; needs self loops.
        last_only: embed by the last node alone: the global one, or else the output.

    Raises:
        WithinError: for a normalisation without self loops.
    """

    def __init__(
        self,
        vertices: int = 7,
        operations: int = 4,
        *,
        operation_width: int = 48,
        start_width: int = 48,
        widths: Sequence[int] = (128,) * 4,
        global_node: bool = False,
        self_loops: bool = True,
        normalised: bool = False,
        last_only: bool = False,
    ) -> None:
        super().__init__()
        if normalised and not self_loops:
            raise WithinError(
                "Vertices that nothing enters have no degree to divide by", todo="add self loops, or do not normalise"
            )
        self.vertices, self.padding, self.embedding_width = vertices, operations - 1, widths[-1]
        self.self_loops, self.normalised, self.last_only = self_loops, normalised, last_only
        self.operations = nn.Embedding(operations, operation_width)
        self.input = nn.Parameter(torch.randn(operation_width))
        self.output = nn.Parameter(torch.zeros(operation_width))
        self.virtual = nn.Parameter(torch.zeros(operation_width)) if global_node else None
        self.start = nn.Linear(operation_width, start_width)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise((start_width, *widths)))
        before, after = torch.tensor(list(itertools.combinations(range(vertices), 2))).T
        self.register_buffer("before", before, persistent=False)
        self.register_buffer("after", after, persistent=False)

    before: Tensor
    after: Tensor

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each."""
        kinds = architectures[:, len(self.before) :]
        there = F.pad((kinds != self.padding).to(self.input.dtype), (1, 1), value=1)
        links = self._links(architectures, there)
        count = len(architectures)
        parts = [self.input.expand(count, 1, -1), self.operations(kinds), self.output.expand(count, 1, -1)]
        if self.virtual is not None:
            parts.append(self.virtual.expand(count, 1, -1))
            there = F.pad(there, (0, 1), value=1)
        x = self.start(torch.cat(parts, dim=1))
        for number, layer in enumerate(self.layers):
            x = links @ F.linear(x, layer.weight) + layer.bias  # type: ignore[arg-type,operator]
            if number < len(self.layers) - 1:
                x = F.relu(x)
        return x[:, -1] if self.last_only else (x * there[:, :, None])[:, 1:].mean(1)

    def _links(self, architectures: Tensor, there: Tensor) -> Tensor:
        """Returns the adjacency from column to row."""
        links = there.new_zeros(len(architectures), self.vertices, self.vertices)
        links[:, self.after, self.before] = architectures[:, : len(self.before)].to(there.dtype)
        if self.virtual is not None:
            links = F.pad(links, (0, 1, 0, 1))
            links[:, -1, :-1] = there
        if self.self_loops:
            links = links + torch.eye(links.shape[-1], dtype=links.dtype, device=links.device)
        if self.normalised:
            roots = links.sum(2).rsqrt()
            links = roots[:, :, None] * links * roots[:, None]
        return links
