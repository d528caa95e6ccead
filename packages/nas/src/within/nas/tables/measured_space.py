"""The part of a space that a table measured, as a space of its own: searches draw and mutate among its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from within.nas.spaces import Architecture, Space
from within.nas.tables.table import Table


@dataclass(frozen=True, eq=False)
class MeasuredSpace(Space):
    """A space whose networks are the rows of a table.

    Attributes:
        rows: the architectures.
    """

    rows: tuple[Architecture, ...] = ()
    _genes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64), repr=False)

    @property
    def combinations(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def all(self) -> Iterator[Architecture]:
        """Yields every row."""
        yield from self.rows

    def random(self, generator: Generator) -> Architecture:
        """Returns a row, each being equally likely."""
        return self.rows[int(generator.integers(len(self.rows)))]

    def mutated(self, architecture: Architecture, generator: Generator, genes: int = 1) -> Architecture:
        """Returns a row that differs in so many genes, or as nearly so many as any does, drawn at random."""
        apart = (self._genes != np.asarray(architecture)).sum(1)
        far = np.where(apart > 0, np.abs(apart - genes), len(architecture) + genes)
        near = np.flatnonzero(far == far.min())
        return self.rows[int(near[int(generator.integers(len(near)))])]

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Yields every row that differs in one gene."""
        for row in np.flatnonzero((self._genes != np.asarray(architecture)).sum(1) == 1):
            yield self.rows[row]


def measured_space(table: Table) -> MeasuredSpace:
    """Returns the space of a table's rows."""
    known = frozenset(table.architectures)
    return MeasuredSpace(
        f"{table.space.name} ({len(table):,} measured)",
        table.space.genes,
        is_network=known.__contains__,
        canonical=table.space.canonical,
        rows=table.architectures,
        _genes=np.asarray(table.architectures, dtype=np.int64),
    )
