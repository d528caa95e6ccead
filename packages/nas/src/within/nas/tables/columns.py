"""Columns of a table in a file: parquet, ours marked with a version, or comma-separated values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from within.core.errors import WithinError
from within.core.files import atomic_write

VERSION = 1
MARK = b"within.nas.table"


def read_columns(path: str | Path, expected: Sequence[str] = (), texts: Sequence[str] = ()) -> Any:
    """Returns the `pyarrow.Table` of a file.

    Arguments:
        path: of a file of comma-separated values when its name ends in .csv, of a parquet file otherwise.
        expected: columns that must be there.
        texts: those of them that are texts, even where they look like numbers.

    Raises:
        WithinError: when the file is missing, empty, no such file or of a newer version, or columns are missing.
    """
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    if not Path(path).is_file():
        raise WithinError("The table is not there", where=str(path))
    separated = Path(path).suffix == ".csv"
    try:
        if separated:
            options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(texts, pyarrow.string()))
            found = pyarrow.csv.read_csv(path, convert_options=options)
        else:
            found = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        kind = "table of comma-separated values" if separated else "parquet file"
        raise WithinError(f"The file is no {kind}: {error}", where=str(path)) from error
    version = int((found.schema.metadata or {}).get(MARK, VERSION))
    if version > VERSION:
        raise WithinError(
            f"The file was written by a newer version ({version}; this one reads {VERSION})",
            where=str(path),
            todo="update within-nas",
        )
    missing = [name for name in expected if name not in found.column_names]
    if missing:
        raise WithinError(f"Columns are missing: {', '.join(missing)}", where=str(path))
    if not len(found):
        raise WithinError("The table has no rows", where=str(path))
    return found


def write_columns(path: str | Path, columns: Mapping[str, Any]) -> None:
    """Writes columns to a parquet file, which is whole or absent.

    Raises:
        WithinError: when the folder cannot be written or the disk is full.
    """
    import pyarrow
    import pyarrow.parquet

    found = pyarrow.table(dict(columns)).replace_schema_metadata({MARK: str(VERSION).encode()})
    with atomic_write(path) as temporary:
        pyarrow.parquet.write_table(found, temporary)
