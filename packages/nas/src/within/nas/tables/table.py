"""A table of measured architectures: one row each, columns of numbers, NaN where nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.nas.spaces import Architecture, Space


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


def read_parquet(path: str | Path, space: Space, genes: Sequence[str], *, order: str | None = None) -> Table:
    """Returns the table of a parquet file.

    Arguments:
        path: of the file.
        space: of its architectures.
        genes: columns with the number of each gene's value.
        order: column by which the rows are sorted.

    Raises:
        WithinError: when the file is missing or no parquet file, columns are missing, or an architecture is unknown or
            occurs twice.
    """
    import pyarrow
    import pyarrow.parquet

    if not Path(path).is_file():
        raise WithinError("The table is not there", where=str(path))
    try:
        found = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise WithinError(f"The file is no parquet file: {error}", where=str(path)) from error
    missing = [name for name in (*genes, *([order] if order else [])) if name not in found.column_names]
    if missing:
        raise WithinError(f"Columns are missing: {', '.join(missing)}", where=str(path))
    if order:
        found = found.sort_by(order)
    values = {name: found.column(name).to_numpy() for name in genes}
    architectures = []
    seen: dict[Architecture, int] = {}
    for row, numbers in enumerate(zip(*values.values(), strict=True)):
        architecture = space.check(numbers, f"{path}, row {row}")
        if architecture in seen:
            raise WithinError(
                f"The architecture {list(architecture)} occurs twice",
                where=f"{path}, rows {seen[architecture]} and {row}",
            )
        seen[architecture] = row
        architectures.append(architecture)
    columns = {
        name: found.column(name).to_numpy().astype(np.float64)
        for name, kind in zip(found.column_names, found.schema.types, strict=True)
        if pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind)
    }
    return Table(space, tuple(architectures), columns, str(path))
