"""GATES for cells with an operation on each edge, at most one edge a pair: information flows through gates.

    S_l = X_l W_l                                  of every node
    G_l = sigmoid(E[op] U_l + u_l), 0 for none     of every edge
    O_l = sum over edges into a node of G_l S_l[from] + R_l;   R_l = S_l at the input node, 0 elsewhere
    X_{l+1} = relu(O_l), not after the last layer; the embedding is that of the output node

Ning et al.: A Generic Graph-based Neural Architecture Encoding Scheme for Predictor-based NAS, ECCV 2020 (TPAMI 2023).
Gates depend on the operation alone, so each is computed once a layer, not once an edge. A node that nothing reaches
carries zeros from the first layer on: dead operations and the numbers of the inner nodes do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


class GatesEdgeEncoder(nn.Module):
    """See the module.

    Arguments:
        edges: from and to of each gene's edge; the last node is the output.
        operations: values of a gene, `none` first.
        operation_width: of the operations' embeddings.
        node_width: of the information at the input node.
        start_width: of the first linear layer.
        widths: of the layers.
    """

    def __init__(
        self,
        edges: Sequence[tuple[int, int]],
        operations: int,
        *,
        operation_width: int = 48,
        node_width: int = 48,
        start_width: int = 96,
        widths: Sequence[int] = (128,) * 5,
    ) -> None:
        super().__init__()
        self.nodes = max(after for _, after in edges) + 1
        self.embedding_width = widths[-1]
        self.operations = nn.Embedding(operations, operation_width)
        self.input = nn.Parameter(torch.randn(node_width))
        self.register_buffer("others", torch.zeros(node_width))
        self.start = nn.Linear(node_width, start_width)
        before = [start_width, *widths[:-1]]
        self.transforms = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(before, widths, strict=True))
        self.gates = nn.ModuleList(nn.Linear(operation_width, width) for width in widths)
        for transform in self.transforms:
            bound = transform.out_features**-0.5  # type: ignore[union-attr,operator]
            nn.init.uniform_(transform.weight, -bound, bound)  # type: ignore[arg-type]
        into = torch.zeros(self.nodes, len(edges))
        for number, (_, after) in enumerate(edges):
            into[after, number] = 1
        self.register_buffer("into", into, persistent=False)
        self.register_buffer("origins", torch.tensor([before for before, _ in edges]), persistent=False)

    others: Tensor
    into: Tensor
    origins: Tensor

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each."""
        first = torch.cat([self.input[None], self.others.expand(self.nodes - 1, -1)])
        x = self.start(first).expand(len(architectures), -1, -1)
        at_input = F.one_hot(torch.zeros((), dtype=torch.int64, device=x.device), self.nodes).to(x.dtype)[:, None]
        for number, (transform, gate) in enumerate(zip(self.transforms, self.gates, strict=True)):
            sent = transform(x)
            gates = torch.sigmoid(gate(self.operations.weight))
            gates = torch.cat([torch.zeros_like(gates[:1]), gates[1:]])
            messages = F.embedding(architectures, gates) * sent.index_select(1, self.origins)
            x = torch.einsum("ne,bed->bnd", self.into, messages) + at_input * sent
            if number < len(self.transforms) - 1:
                x = F.relu(x)
        return x[:, -1]
