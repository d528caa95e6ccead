"""The table of NAS-Bench-201: what was measured of each architecture, in columns."""

from __future__ import annotations

from pathlib import Path

from within.nas.spaces import nasbench201
from within.nas.tables.table import Table, read_parquet

EDGE_COLUMNS = tuple(f"op_{before}to{after}" for before, after in nasbench201.EDGES)


def read(path: str | Path) -> Table:
    """Returns the architectures, in the order of their official numbers, and all columns of numbers.

    Raises:
        WithinError: when the file is missing or no parquet file, columns are missing, or an architecture is unknown or
            occurs twice.
    """
    return read_parquet(path, nasbench201.SPACE, EDGE_COLUMNS, order="arch_idx")
