"""Brings official files of benchmarks into tables: `within nas prepare`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from within.core.errors import WithinError
from within.nas.tables.named import read_table
from within.nas.tables.nasbench101_table import prepare_nasbench101

PREPARED: Mapping[str, Callable[[Path, Path], Any]] = {"nasbench101": prepare_nasbench101}


def main(table: str, source: str | Path, target: str | Path) -> dict[str, Any]:
    """Writes a table, whole or not at all, reads it back, and returns what it holds.

    Arguments:
        table: a name of `PREPARED`.
        source: the official file.
        target: the parquet file to write.

    Raises:
        WithinError: for an unknown table, or a file that is missing or damaged.
    """
    if table not in PREPARED:
        raise WithinError(f"There is nothing to prepare for {table!r}", todo=f"choose one of {', '.join(PREPARED)}")
    PREPARED[table](Path(source), Path(target))
    found = read_table(table, target)
    return {"table": table, "file": str(target), "architectures": len(found), "columns": ", ".join(found.columns)}
