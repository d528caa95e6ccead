"""A table of measured architectures: one row each, columns of numbers, NaN where nothing was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.nas.spaces import Architecture, Space
from within.nas.tables.columns import read_columns

FAILED = -1e7  # published tables write lower numbers where a cheap score could not be computed


@dataclass(frozen=True, eq=False)
class Table:
    """See the module.

    Attributes:
        space: of the architectures.
        architectures: one a row.
        columns: numbers by name.
        where: the file.
    """

    space: Space
    architectures: tuple[Architecture, ...]
    columns: Mapping[str, Float[np.ndarray, " architectures"]] = field(repr=False)
    where: str = ""

    def __len__(self) -> int:
        return len(self.architectures)

    def column(self, name: str) -> Float[np.ndarray, " architectures"]:
        """Returns a column.

        Raises:
            WithinError: when there is none of this name, with the closest ones.
        """
        if name not in self.columns:
            near = sorted(self.columns, key=lambda other: -len(set(other.split("_")) & set(name.split("_"))))[:5]
            raise WithinError(
                f"The table has no column {name!r}",
                where=self.where or None,
                todo=f"choose one, such as {', '.join(near)}",
            )
        return self.columns[name]

    def labels(self, name: str) -> Float[np.ndarray, " architectures"]:
        """Returns a column to learn or to search by.

        Raises:
            WithinError: when a number is missing or infinite, or all are equal.
        """
        found = self.column(name)
        bad = np.flatnonzero(~np.isfinite(found))
        if len(bad):
            raise WithinError(
                f"{len(bad)} of {len(found)} labels {name!r} are NaN or infinite",
                where=f"{self.where}, row {bad[0]}",
                todo="choose another column, or drop these rows",
            )
        if len(found) and found.min() == found.max():
            raise WithinError(
                f"All labels {name!r} are {found[0]}", where=self.where or None, todo="choose another column"
            )
        return found

    def rows(self, rows: Sequence[int] | NDArray[np.integer]) -> Table:
        """Returns some rows, in this order."""
        chosen = np.asarray(rows, dtype=np.int64)
        columns = {name: values[chosen] for name, values in self.columns.items()}
        return Table(self.space, tuple(self.architectures[row] for row in chosen), columns, self.where)


def read_parquet(
    path: str | Path,
    space: Space,
    genes: Sequence[str],
    *,
    order: str | None = None,
    values: bool = False,
    repeated: bool = False,
) -> Table:
    """Returns the table of a parquet file, or of one of comma-separated values whose name ends in .csv.

    Arguments:
        path: of the file.
        space: of its architectures.
        genes: columns with the number of each gene's value.
        order: column by which the rows are sorted.
        values: the columns hold the values themselves instead of their numbers.
        repeated: see `table_of`.

    Raises:
        WithinError: when the file is missing or no table, columns are missing, or an architecture is unknown or occurs
            twice.
    """
    if len(genes) != len(space.genes):
        raise WithinError(f"{space.name} has {len(space.genes)} genes, not {len(genes)}", where=str(path))
    found = read_columns(path, (*genes, *([order] if order else [])))
    if order:
        found = found.sort_by(order)
    numbers = [
        _numbers(found.column(name).to_numpy().tolist(), name, gene.values if values else None, str(path))
        for name, gene in zip(genes, space.genes, strict=True)
    ]
    return table_of(found, space, list(zip(*numbers, strict=True)), str(path), repeated=repeated)


def read_texts(
    path: str | Path, space: Space, text: str, from_text: Callable[[str], Architecture], *, repeated: bool = False
) -> Table:
    """Returns the table of a file whose architectures are texts in one column.

    Arguments:
        path: of the file.
        space: of its architectures.
        text: the column.
        from_text: reads a text.
        repeated: see `table_of`.

    Raises:
        WithinError: as `read_parquet`.
    """
    found = read_columns(path, [text], [text])
    architectures = []
    for row, each in enumerate(found.column(text).to_pylist()):
        try:
            architectures.append(from_text(str(each)))
        except WithinError as error:
            raise WithinError(error.what, where=f"{path}, row {row}", todo=error.todo) from error
    return table_of(found, space, architectures, str(path), repeated=repeated)


def table_of(
    columns: Any, space: Space, architectures: Sequence[Sequence[int]], where: str, *, repeated: bool = False
) -> Table:
    """Returns a table of architectures and all columns of numbers.

    Arguments:
        columns: a `pyarrow.Table` with a row for each architecture.
        space: of the architectures.
        architectures: one a row.
        where: the file.
        repeated: architectures that occur several times become one row, with the means of what is not NaN.

    Raises:
        WithinError: when an architecture is unknown, or occurs twice.
    """
    import pyarrow

    seen: dict[Architecture, int] = {}
    rows = np.empty(len(architectures), np.int64)  # that each row of the file becomes part of
    for row, genes in enumerate(architectures):
        architecture = space.check(genes, f"{where}, row {row}")
        if architecture in seen and not repeated:
            raise WithinError(
                f"The architecture {list(architecture)} occurs twice",
                where=f"{where}, rows {int(np.flatnonzero(rows[:row] == seen[architecture])[0])} and {row}",
            )
        rows[row] = seen.setdefault(architecture, len(seen))
    kinds = (pyarrow.types.is_floating, pyarrow.types.is_integer, pyarrow.types.is_boolean)
    numbers = {
        name: columns.column(name).to_numpy().astype(np.float64)
        for name, kind in zip(columns.column_names, columns.schema.types, strict=True)
        if any(is_kind(kind) for is_kind in kinds)
    }
    if len(seen) < len(rows):
        numbers = {name: _means(values, rows, len(seen)) for name, values in numbers.items()}
    return Table(space, tuple(seen), numbers, where)


def _numbers(column: Sequence[Any], name: str, values: tuple[str | int, ...] | None, where: str) -> list[int]:
    """Returns the numbers of a column's values, or the column itself if these are whole numbers."""
    known = None if values is None else {value: number for number, value in enumerate(values)}
    for row, value in enumerate(column):
        if known is None and not (isinstance(value, (int, float)) and float(value).is_integer()):
            raise WithinError(f"{name} is {value}, which is no whole number", where=f"{where}, row {row}")
        if known is not None and value not in known:
            todo = f"give one of {', '.join(map(str, known))}"
            raise WithinError(f"{name} is {value}", where=f"{where}, row {row}", todo=todo)
    return list(map(int, column)) if known is None else [known[value] for value in column]


def _means(values: NDArray[np.float64], rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    there = np.isfinite(values)
    sums = np.bincount(rows[there], values[there], count)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / np.bincount(rows[there], minlength=count), dtype=np.float64)
