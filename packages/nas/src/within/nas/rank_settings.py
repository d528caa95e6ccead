"""What a ranking job is told: the table, the label, how it is split, which learners learn from how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from within.core.cli.configuration import read_dataclass
from within.core.errors import WithinError
from within.nas.learner import LearnerSettings
from within.nas.tables.named import read_table
from within.nas.tables.table import Table


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which architectures are learned from, and which are tested on.

    Attributes:
        column: by which they are told apart; without one, by their order.
        below: values of the column that are learned from; a share of the rows where there is no column.
        shuffled: where there is no column, rows are shuffled first.
        seed: of the shuffling.
    """

    column: str | None = None
    below: float = 0.5
    shuffled: bool = True
    seed: int = 0

    def of(self, table: Table) -> tuple[Table, Table]:
        """Returns the rows to learn from and those to test on.

        Raises:
            WithinError: when either has fewer than two.
        """
        if self.column is None:
            order = np.arange(len(table))
            if self.shuffled:
                order = np.random.default_rng(self.seed).permutation(order)
            parts = np.split(order, [round(self.below * len(table))])
        else:
            lower = table.column(self.column) < self.below
            parts = [np.flatnonzero(lower), np.flatnonzero(~lower)]
        for rows, what in zip(parts, ("learn from", "test on"), strict=True):
            if len(rows) < 2:
                raise WithinError(
                    f"There are {len(rows)} architectures to {what}", where=table.where or "split", todo="change below="
                )
        return table.rows(parts[0]), table.rows(parts[1])


@dataclass(frozen=True, kw_only=True)
class RankSettings:
    """See the module.

    Attributes:
        name: of the run.
        table: kind of table, see `within.nas.tables.named`.
        path: its file; relative to the data folder.
        label: column that is learned, the higher the better.
        learners: see `LearnerSettings`.
        split: see `Split`.
        shares: of the rows to learn from: the first ones of them.
        seeds: each is a training.
        workers: processes, one thread each; all processors by default.
        ray: see `within.core.parallel.map`.
    """

    name: str = "rank"
    table: str
    path: str
    label: str
    learners: Sequence[LearnerSettings]
    split: Split = Split()
    shares: Sequence[float] = (0.01, 0.05, 0.1, 0.5, 1.0)
    seeds: Sequence[int] = (0,)
    workers: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        if not self.learners:
            raise WithinError("There is nothing to learn with", where="learners", todo="give at least one")
        titles = [each.title for each in self.learners]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise WithinError(f"Two learners are called {twice!r}", where="learners", todo="give them names")
        wrong = [share for share in self.shares if not 0 < share <= 1]
        if wrong or not self.shares:
            raise WithinError(
                f"A share of {wrong[0] if wrong else 'nothing'}", where="shares", todo="give 0 < share <= 1"
            )

    def read(self) -> Table:
        """Returns the table, its label checked.

        Raises:
            WithinError: as reading does, and when a label or a column of the settings is missing.
        """
        table = read_table(self.table, self.path)
        table.labels(self.label)
        for each in self.learners:
            for name in each.cheap_labels:
                table.column(name)
        train, _ = self.split.of(table)
        least = min(self.shares)
        if self.size(least, train) < 2:
            raise WithinError(
                f"A share of {least:g} of {len(train)} architectures leaves {self.size(least, train)} to learn from",
                where="shares",
                todo="learn from two or more",
            )
        return table

    def size(self, share: float, train: Table) -> int:
        """Returns how many architectures a share is."""
        return int(share * len(train))


def rank_settings(config: dict[str, Any], where: str) -> RankSettings:
    """Returns the settings of a configuration.

    Raises:
        WithinError: naming a key that is unknown or missing, or a contradiction.
    """
    given = dict(config)
    learners = given.get("learners", ())
    given["learners"] = [
        read_dataclass(LearnerSettings, each, f"{where}: learners[{number}]") for number, each in enumerate(learners)
    ]
    return read_dataclass(RankSettings, given, where)
