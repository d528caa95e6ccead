"""GATES for cells with an operation on each edge, at most one edge a pair: information flows through gates.

    S_l = X_l W_l                                  of every node
    G_l = sigmoid(E[op] U_l + u_l), 0 for none     of every edge
    O_l = sum over edges into a node of G_l S_l[from] + R_l;   R_l = S_l at the input node, 0 elsewhere
    X_{l+1} = relu(O_l), not after the last layer; the embedding is that of the output node

Ning et al.: A Generic Graph-based Neural Architecture Encoding Scheme for Predictor-based NAS, ECCV 2020 (TPAMI 2023).
A node that nothing reaches carries zeros from the first layer on: dead operations and the numbers of the inner nodes do
not matter.

What is equal is computed once. Gates depend on the operation alone; what a node carries depends on the genes of the
edges up to it alone, and few cells of a batch differ in those (node 1 of NAS-Bench-201 has five forms, node 2 has 125);
the output node sends nothing, so that only its last layer counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from within.core.errors import WithinError


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
        if {after for _, after in edges} != set(range(1, 1 + max(after for _, after in edges))):
            raise WithinError("A node has no incoming edge", todo="number the nodes from 0, the input, without gaps")
        if operations ** len(edges) >= 2**63:
            raise WithinError(
                f"A cell of {len(edges)} edges and {operations} operations",
                todo="give cells with fewer than 2^63 forms",
            )
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
            bound = transform.out_features**-0.5  # type: ignore[operator]
            nn.init.uniform_(transform.weight, -bound, bound)  # type: ignore[arg-type]
        self.order = sorted(range(len(edges)), key=lambda number: edges[number][1])
        self.edges = tuple(edges[number] for number in self.order)

    others: Tensor

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each."""
        links = self._links(architectures[:, self.order])
        begun = self.start(torch.stack([self.input, self.others]))
        inner = sum(len(rows[0][1]) for rows in links[:-1])
        x = torch.cat([begun[:1], begun[1:].expand(inner, -1)])
        for number, (transform, gate) in enumerate(zip(self.transforms, self.gates, strict=True)):
            gates = torch.sigmoid(gate(self.operations.weight[1:]))
            gates = torch.cat([torch.zeros_like(gates[:1]), gates])
            sent = transform(x)
            if number == len(self.transforms) - 1:
                return _received(links[-1], gates, sent)
            x = F.relu(torch.cat([sent[:1], *(_received(rows, gates, sent) for rows in links[:-1])]))
        raise AssertionError("there is no layer")

    def _links(self, genes: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
        """Returns, for each node but the input, operation and row of the sender of each edge into it.

        Rows are the input and, node by node, the different combinations of genes up to a node, in ascending order. The
        last node, the output, has a row for each architecture instead.
        """
        base = self.operations.num_embeddings
        found: list[list[tuple[Tensor, Tensor]]] = []
        # of each node: the combinations as numbers, how many genes they have, the row of the first one
        forms = [(torch.zeros(1, dtype=torch.int64, device=genes.device), 0, 0)]
        rows, last = 1, 0
        for node in range(1, self.nodes):
            incoming = [edge for edge in self.edges if edge[1] == node]
            first, last = last, last + len(incoming)
            weights = base ** torch.arange(last - 1, -1, -1, device=genes.device)
            values = (genes[:, :last] * weights).sum(1)
            if node < self.nodes - 1:
                values = values.unique()
            links = []
            for number, (before, _) in enumerate(incoming, first):
                operation = values // base ** (last - 1 - number) % base
                known, length, start = forms[before]
                links.append((operation, start + torch.searchsorted(known, values // base ** (last - length))))
            found.append(links)
            forms.append((values, last, rows))
            rows += len(values)
        return found


def _received(links: list[tuple[Tensor, Tensor]], gates: Tensor, sent: Tensor) -> Tensor:
    """Returns the sum of the messages into a node."""
    messages = [F.embedding(operation, gates) * F.embedding(row, sent) for operation, row in links]
    return sum(messages[1:], messages[0])
