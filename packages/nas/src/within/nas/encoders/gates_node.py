"""GATES for cells with operations on vertices: information flows along edges through the gate of each operation.

    S_l = X_l W_l
    O_l = sigmoid(E U_l + u_l) * (A' S_l) + R_l + b_l;   A'[to, from], with I added if asked
    X_{l+1} = relu(O_l), not after the last layer

Ning et al.: GATES, ECCV 2020 (TPAMI 2023). R_l is S_l, or S_l at the first vertices alone, or nothing. The embedding is
the mean over all vertices but the input, where padding counts as zeros, or that of the output.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


class GatesNodeEncoder(nn.Module):
    """See the module; architectures are edges, row by row of the upper triangle, and operations of inner vertices.

    Arguments:
        vertices: of a cell, input and output included.
        operations: values of a vertex's gene; the last one is padding.
        operation_width, node_width, start_width: of embeddings, of information at the vertices, of the first layer.
        widths: of the layers.
        residual: vertices at which what they had stays: None for all, 0 for none, k for the first k.
        self_loops: add I to the adjacency.
        output_only: embed by the output vertex alone.
    """

    def __init__(
        self,
        vertices: int = 7,
        operations: int = 4,
        *,
        operation_width: int = 48,
        node_width: int = 48,
        start_width: int = 96,
        widths: Sequence[int] = (128,) * 4,
        residual: int | None = None,
        self_loops: bool = False,
        output_only: bool = False,
    ) -> None:
        super().__init__()
        self.vertices, self.padding, self.residual = vertices, operations - 1, residual
        self.self_loops, self.output_only, self.embedding_width = self_loops, output_only, widths[-1]
        self.pairs = tuple(itertools.combinations(range(vertices), 2))
        self.operations = nn.Embedding(operations, operation_width)
        self.output = nn.Parameter(torch.randn(operation_width))
        self.input_node, self.other_nodes = nn.Parameter(torch.randn(node_width)), nn.Parameter(torch.zeros(node_width))
        self.start = nn.Linear(node_width, start_width)
        self.transforms, self.gates, self.biases = make_flow(start_width, widths, operation_width)

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each."""
        links, kinds = self.graph(architectures)
        return self.read_out(self.passed(links, self.embedded(kinds)), kinds)

    def embedded(self, kinds: Int64[Tensor, "batch inner"]) -> Float[Tensor, "batch vertices operation_width"]:
        """Returns the embedding of each vertex's operation, input and output included."""
        ends = (
            self.operations.weight.new_zeros(len(kinds), 1, self.output.numel()),
            self.output.expand(len(kinds), 1, -1),
        )
        return torch.cat([ends[0], self.operations(kinds), ends[1]], dim=1)

    def passed(
        self, links: Float[Tensor, "batch vertices vertices"], embedded: Float[Tensor, "batch vertices operation_width"]
    ) -> Float[Tensor, "batch vertices width"]:
        """Returns what the last layer leaves at the vertices."""
        nodes = torch.cat([self.input_node[None], self.other_nodes.expand(self.vertices - 1, -1)])
        x = self.start(nodes).expand(len(links), -1, -1)
        return flow(x, links, embedded, self.transforms, self.gates, self.biases, self.residual)

    def read_out(
        self, x: Float[Tensor, "batch vertices width"], kinds: Int64[Tensor, "batch inner"]
    ) -> Float[Tensor, "batch width"]:
        """Returns the embedding of each cell."""
        if self.output_only:
            return x[:, -1]
        there = F.pad((kinds != self.padding).to(x.dtype), (1, 1), value=1)
        return (x * there[:, :, None])[:, 1:].sum(1) / (self.vertices - 1)

    def graph(self, architectures: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the adjacency from column to row, and the operations of the inner vertices."""
        edges = architectures[:, : len(self.pairs)].to(self.operations.weight.dtype)
        links = edges.new_zeros(len(architectures), self.vertices, self.vertices)
        before, after = torch.tensor(self.pairs, device=edges.device).T
        links[:, after, before] = edges
        if self.self_loops:
            links = links + torch.eye(self.vertices, dtype=links.dtype, device=links.device)
        return links, architectures[:, len(self.pairs) :]


def flow(
    x: Tensor,
    links: Tensor,
    embedded: Tensor,
    transforms: nn.ModuleList,
    gates: nn.ModuleList,
    biases: nn.ParameterList,
    residual: int | None,
) -> Tensor:
    """Returns what the last layer leaves at the vertices; a negative residual means the last vertices."""
    for number, (transform, gate, bias) in enumerate(zip(transforms, gates, biases, strict=True)):
        sent = transform(x)
        x = torch.sigmoid(gate(embedded)) * (links @ sent) + bias
        if residual is None:
            x = x + sent
        elif residual > 0:
            x = x + F.pad(sent[:, :residual], (0, 0, 0, sent.shape[1] - residual))
        elif residual < 0:
            x = x + F.pad(sent[:, residual:], (0, 0, sent.shape[1] + residual, 0))
        if number < len(transforms) - 1:
            x = F.relu(x)
    return x


def make_flow(
    start: int, widths: Sequence[int], operation_width: int
) -> tuple[nn.ModuleList, nn.ModuleList, nn.ParameterList]:
    """Returns transforms, gates and biases of layers."""
    transforms = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise((start, *widths)))
    gates = nn.ModuleList(nn.Linear(operation_width, width) for width in widths)
    biases = nn.ParameterList(torch.empty(width) for width in widths)
    for transform, bias in zip(transforms, biases, strict=True):
        bound = bias.numel() ** -0.5
        nn.init.uniform_(transform.weight, -bound, bound)  # type: ignore[arg-type]
        nn.init.uniform_(bias, -bound, bound)
    return transforms, gates, biases
