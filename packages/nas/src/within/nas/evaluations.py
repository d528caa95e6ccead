"""Evaluated architectures on the disk: an SQLite file that is only ever added to, so a search goes on after any stop.

Every evaluation is one transaction; what was written before a kill is there afterwards, and what was not is evaluated
again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from within.core.errors import WithinError
from within.nas.spaces import Architecture

VERSION = 1
SCHEMA = """
create table if not exists evaluations (
    number integer primary key autoincrement, architecture text unique not null, objectives text not null
)
"""


class Evaluations:
    """See the module.

    Arguments:
        path: of the file; it is made if it is not there.
        what: is evaluated and how, as plain text; another text in the file is an error.

    Raises:
        WithinError: when the file is no such file, was written by a newer version, or holds other evaluations.
    """

    def __init__(self, path: str | Path, what: str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.connection = sqlite3.connect(self.path, isolation_level=None)
            self.connection.execute("pragma journal_mode=wal")
            version = self.connection.execute("pragma user_version").fetchone()[0]
            if version > VERSION:
                raise WithinError(
                    f"The file was written by a newer version ({version}; this one reads {VERSION})",
                    where=str(path),
                    todo="update within-nas",
                )
            self.connection.execute(SCHEMA)
            self.connection.execute("create table if not exists about (what text not null)")
            self.connection.execute(f"pragma user_version={VERSION}")
        except sqlite3.DatabaseError as error:
            raise WithinError(f"The file is no file of evaluations: {error}", where=str(path)) from error
        found = self.connection.execute("select what from about").fetchone()
        if found is None:
            self.connection.execute("insert into about values (?)", (what,))
        elif found[0] != what:
            raise WithinError(
                f"The file holds evaluations of {found[0]!r}, not of {what!r}",
                where=str(path),
                todo="choose another file, or the settings it was begun with",
            )

    def add(self, architecture: Architecture, objectives: Mapping[str, float]) -> None:
        """Writes one evaluation; one that is there stays as it is."""
        self.connection.execute(
            "insert or ignore into evaluations (architecture, objectives) values (?, ?)",
            (json.dumps(architecture), json.dumps(dict(objectives))),
        )

    def __iter__(self) -> Iterator[tuple[Architecture, dict[str, float]]]:
        """Yields architectures and objectives in the order in which they were evaluated."""
        for architecture, objectives in self.connection.execute(
            "select architecture, objectives from evaluations order by number"
        ):
            yield tuple(json.loads(architecture)), json.loads(objectives)

    def __len__(self) -> int:
        return int(self.connection.execute("select count(*) from evaluations").fetchone()[0])

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()

    def __enter__(self) -> Evaluations:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
