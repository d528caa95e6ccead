"""A user's own measurements: a parquet file or comma-separated values, a row for each architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from within.core.errors import WithinError
from within.nas.spaces import Architecture, Space
from within.nas.tables.table import Table, read_parquet, read_texts


def read_own(
    path: str | Path,
    space: Space,
    *,
    genes: Sequence[str] | None = None,
    values: bool = False,
    text: str | None = None,
    from_text: Callable[[str], Architecture] | None = None,
) -> Table:
    """Returns the table of a file that ends in .csv, or of a parquet file.

    Arguments:
        path: of the file.
        space: of its architectures.
        genes: columns of the genes, in order; the names of the space's genes if None.
        values: these columns hold the genes' values, such as a kernel's size, instead of their numbers.
        text: the column of the architectures' texts, instead of genes.
        from_text: reads such a text.

    Raises:
        WithinError: when the file is missing or no table, columns are missing, or an architecture is unknown or occurs
            twice.
    """
    if (text is None) != (from_text is None):
        raise WithinError("A column of texts needs a function that reads them", todo="give both text and from_text")
    if text is None or from_text is None:
        names = [gene.name for gene in space.genes] if genes is None else genes
        return read_parquet(path, space, names, values=values)
    return read_texts(path, space, text, from_text)
