"""Where the genes of an architecture describe a cell whose nodes have several input slots, an operation on each."""

from __future__ import annotations

from dataclasses import dataclass

from within.core.errors import WithinError


@dataclass(frozen=True)
class CellGenes:
    """See the module.

    Attributes:
        operations: for each inner node, the gene of each slot's operation.
        inputs: for each inner node, the gene of each slot's input: the number of a node, the cell's inputs first.

    Raises:
        WithinError: when there are no nodes, nodes have different numbers of slots, or operations and inputs do.
    """

    operations: tuple[tuple[int, ...], ...]
    inputs: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        slots = {len(node) for node in (*self.operations, *self.inputs)}
        if len(self.operations) != len(self.inputs) or len(slots) != 1:
            raise WithinError(
                "A cell has no nodes, nodes with different numbers of slots, or slots without operation or input",
                where=str(self),
                todo="give every slot of every node a gene for its operation and one for its input",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Inner nodes, and slots of each."""
        return len(self.operations), len(self.operations[0])


def interleaved(nodes: int, slots: int = 2, first: int = 0) -> CellGenes:
    """Returns the cell whose genes are, for each node and slot, operation and input, one after the other.

    Arguments:
        nodes: inner ones.
        slots: of each.
        first: gene of the cell.
    """
    genes = [[first + 2 * (node * slots + slot) for slot in range(slots)] for node in range(nodes)]
    return CellGenes(tuple(map(tuple, genes)), tuple(tuple(gene + 1 for gene in node) for node in genes))
