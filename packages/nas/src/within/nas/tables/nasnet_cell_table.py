"""The table of LaNAS: CIFAR-10 accuracies of NASNet-like cells, one training each."""

from __future__ import annotations

from pathlib import Path

from within.nas.spaces import nasnet_cell
from within.nas.tables.table import Table, read_parquet

GENE_COLUMNS = tuple(
    f"{kind}_{node}_{edge}" for node in range(nasnet_cell.NODES) for edge in (0, 1) for kind in ("op", "in")
)


def read(path: str | Path) -> Table:
    """Returns the architectures, in the order of the search that found them, and `valid_acc` in percent.

    Cells that are equal but for the numbers of their nodes are different rows. Accuracies below 50 are trainings that
    failed or were stopped.

    Raises:
        WithinError: when the file is missing or no table, columns are missing, or an architecture is unknown or occurs
            twice.
    """
    return read_parquet(path, nasnet_cell.SPACE, GENE_COLUMNS, order="id")
