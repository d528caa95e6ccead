"""GATES for cells whose nodes have several input slots, an operation on each: ENAS, DARTS, NASNet, NAS-Bench-301.

    S_l = X_l W_l                                              of every node
    G_l = sigmoid(E[op] U_l + u_l), 0 for none                 of every operation
    O_l = mean over slots s of G_l[op_s] S_l[input_s] + R_l;   R_l = S_l at the first nodes, 0 elsewhere
    X_{l+1} = relu(O_l), not after the last layer

Ning et al.: A Generic Graph-based Neural Architecture Encoding Scheme for Predictor-based NAS, ECCV 2020 (TPAMI 2023).
The embedding of a cell is the mean over its inner nodes; those of several cells, such as normal and reduction, follow
each other. All cells share the weights; the information at the cell's inputs is learned for each. A gate depends on the
operation alone and is computed once a layer; a slot is one gather, so two edges between one pair of nodes are no case
of their own. The order of a node's slots and the numbers of the inner nodes do not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from within.core.errors import WithinError
from within.nas.encoders.cell_genes import CellGenes


class GatesMultiEdgeEncoder(nn.Module):
    """See the module.

    Arguments:
        cells: where their genes are; of one shape.
        operations: values of an operation's gene.
        none: the value that carries nothing, if there is one.
        cell_inputs: nodes before the first inner one.
        operation_width, node_width, start_width: of embeddings, of information at the nodes, of the first layer.
        widths: of the layers.
        residual: nodes at which what they had stays: None for all, 0 for none, k for the first k.
        add_slots: add what comes in at the slots instead of taking the mean.

    Raises:
        WithinError: when there are no cells, or of different shapes.
    """

    def __init__(
        self,
        cells: Sequence[CellGenes],
        operations: int,
        *,
        none: int | None = None,
        cell_inputs: int = 2,
        operation_width: int = 48,
        node_width: int = 48,
        start_width: int = 96,
        widths: Sequence[int] = (128,) * 5,
        residual: int | None = 2,
        add_slots: bool = False,
    ) -> None:
        super().__init__()
        if len({cell.shape for cell in cells}) != 1:
            raise WithinError(
                f"{len(cells)} cells, which are none or have different numbers of nodes or slots",
                where=", ".join(f"{nodes} nodes of {slots} slots" for nodes, slots in (cell.shape for cell in cells)),
                todo="give cells of one shape",
            )
        inner, _ = cells[0].shape
        self.cell_inputs, self.nodes = cell_inputs, cell_inputs + inner
        self.none, self.residual, self.add_slots = none, residual, add_slots
        self.embedding_width = len(cells) * widths[-1]
        self.operations = nn.Embedding(operations, operation_width, padding_idx=none)
        self.inputs = nn.Parameter(torch.randn(len(cells), cell_inputs, node_width))
        self.others = nn.Parameter(torch.zeros(len(cells), 1, node_width))
        self.start = nn.Linear(node_width, start_width)
        sizes = itertools.pairwise((start_width, *widths))
        self.transforms = nn.ModuleList(nn.Linear(before, after, bias=False) for before, after in sizes)
        self.gates = nn.ModuleList(nn.Linear(operation_width, width) for width in widths)
        for transform in self.transforms:
            bound = transform.out_features**-0.5  # type: ignore[operator]
            nn.init.uniform_(transform.weight, -bound, bound)  # type: ignore[arg-type]
        self.register_buffer("kind_genes", torch.tensor([cell.operations for cell in cells]), persistent=False)
        self.register_buffer("input_genes", torch.tensor([cell.inputs for cell in cells]), persistent=False)

    kind_genes: Tensor
    input_genes: Tensor

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each."""
        nodes = self.node_embeddings(architectures)
        return nodes[:, :, self.cell_inputs :].mean(2).flatten(1)

    def node_embeddings(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch cells nodes width"]:
        """Returns what the last layer leaves at each node of each cell, the cell's inputs first."""
        batch = len(architectures)
        cells, inner, slots = self.kind_genes.shape
        kinds = architectures[:, self.kind_genes.flatten()]
        begins = torch.arange(batch * cells, device=architectures.device).view(batch, cells, 1) * self.nodes
        origins = (architectures[:, self.input_genes.flatten()].view(batch, cells, -1) + begins).flatten()
        first = torch.cat([self.inputs, self.others.expand(-1, inner, -1)], dim=1)
        x = self.start(first).expand(batch, -1, -1, -1)
        for number, (transform, gate) in enumerate(zip(self.transforms, self.gates, strict=True)):
            sent = transform(x)
            opening = torch.sigmoid(gate(self.operations.weight))
            if self.none is not None:
                opening = opening.index_fill(0, torch.tensor(self.none, device=opening.device), 0)
            messages = F.embedding(kinds.flatten(), opening) * sent.reshape(-1, sent.shape[-1]).index_select(0, origins)
            arriving = messages.view(batch, cells, inner, slots, -1)
            arriving = arriving.sum(3) if self.add_slots else arriving.mean(3)
            x = F.pad(arriving, (0, 0, self.cell_inputs, 0)) + self._kept(sent)
            if number < len(self.transforms) - 1:
                x = F.relu(x)
        return x

    def _kept(self, sent: Tensor) -> Tensor:
        if self.residual is None:
            return sent
        return F.pad(sent[:, :, : self.residual], (0, 0, 0, self.nodes - self.residual))
