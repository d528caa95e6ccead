"""GATES for cells whose nodes have several input slots, an operation on each: ENAS, DARTS, NASNet, NAS-Bench-301.

    S_l = X_l W_l                                              of every node
    G_l = sigmoid(E[op] U_l + u_l), 0 for none                 of every operation
    O_l = mean over slots s of G_l[op_s] S_l[input_s] + R_l;   R_l = S_l at the first nodes, 0 elsewhere
    X_{l+1} = relu(O_l), not after the last layer

Ning et al.: A Generic Graph-based Neural Architecture Encoding Scheme for Predictor-based NAS, ECCV 2020 (TPAMI 2023).
The embedding of a cell is the mean over its inner nodes; those of several cells, such as normal and reduction, follow
each other. All cells share the weights; the information at the cell's inputs is learned for each. A gate depends on the
operation alone and is computed once a layer, and so is what the cells' inputs send; a slot is one gather, so two edges
between one pair of nodes are no case of their own. The order of a node's slots and the numbers of the inner nodes do
not matter.
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
        self.cell_inputs, self.none, self.add_slots = cell_inputs, none, add_slots
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

        nodes = cell_inputs + inner
        kept = (torch.arange(nodes) < (nodes if residual is None else residual)).to(torch.get_default_dtype())[:, None]
        self.register_buffer("kept_at_inputs", kept[:cell_inputs], persistent=False)
        self.register_buffer("kept_inside", kept[cell_inputs:], persistent=False)

    kind_genes: Tensor
    input_genes: Tensor
    kept_at_inputs: Tensor
    kept_inside: Tensor

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each."""
        return self._passed(architectures)[1].mean(2).flatten(1)

    def node_embeddings(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch cells nodes width"]:
        """Returns what the last layer leaves at each node of each cell, the cell's inputs first."""
        at_inputs, inner = self._passed(architectures)
        return torch.cat([at_inputs.expand(len(inner), -1, -1, -1), inner], dim=2)

    def _passed(self, architectures: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the last layer leaves at the cells' inputs, equal for all, and at the inner nodes of each."""
        batch = len(architectures)
        cells, inner, slots = self.kind_genes.shape
        kinds = architectures[:, self.kind_genes.flatten()]
        first, later = self._rows(architectures)
        at_inputs, x = self.start(self.inputs), self.start(self.others)[None]
        for number, (transform, gate) in enumerate(zip(self.transforms, self.gates, strict=True)):
            sent_by_inputs, sent = transform(at_inputs), transform(x)
            opening = torch.sigmoid(gate(self.operations.weight))
            if self.none is not None:
                opening = opening.index_fill(0, torch.tensor(self.none, device=opening.device), 0)
            table = torch.cat([sent_by_inputs.flatten(0, 1), sent.flatten(0, 2)])
            messages = F.embedding(kinds, opening) * F.embedding(later if number else first, table)
            arriving = messages.view(batch, cells, inner, slots, -1)
            arriving = arriving.sum(3) if self.add_slots else arriving.mean(3)
            at_inputs, x = sent_by_inputs * self.kept_at_inputs, arriving + sent * self.kept_inside
            if number < len(self.transforms) - 1:
                at_inputs, x = F.relu(at_inputs), F.relu(x)
        return at_inputs, x

    def _rows(self, architectures: Tensor) -> tuple[Tensor, Tensor]:
        """Returns where the input of each slot is among the rows of all nodes, in the first layer and in the others.

        The cells' inputs come first. Inner nodes are all equal in the first layer: one row for each cell.
        """
        batch = len(architectures)
        cells, inner, slots = self.kind_genes.shape
        nodes = architectures[:, self.input_genes.flatten()].view(batch, cells, inner * slots)
        cell = torch.arange(cells, device=nodes.device)[:, None]
        own = torch.arange(batch * cells, device=nodes.device).view(batch, cells, 1) * inner
        of_inputs, begin = cell * self.cell_inputs + nodes, cells * self.cell_inputs
        is_input = nodes < self.cell_inputs
        first = torch.where(is_input, of_inputs, begin + cell)
        later = torch.where(is_input, of_inputs, begin + own + nodes - self.cell_inputs)
        return first.flatten(1), later.flatten(1)
