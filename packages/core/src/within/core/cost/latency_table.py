"""The look-up table of measured kernel times: an SQLite file that many processes may fill at once.

One row a kernel and environment (runtime and its version, processor, threads), committed as soon as it is measured, so
that an interrupted run loses nothing. Times of other environments stay in the file and are not used.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TypeVar

from within.core.cost.plateau import Point, interpolate
from within.core.device.kernels import Kernel
from within.core.device.kernels.timing import KernelTime
from within.core.device.runtimes import runtime_statuses
from within.core.errors import WithinError

T = TypeVar("T")

APPLICATION_ID = 0x57697468  # "With"
VERSION = 1
_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE kernels (
    runtime TEXT NOT NULL, version TEXT NOT NULL, processor TEXT NOT NULL, threads INTEGER NOT NULL,
    kernel TEXT NOT NULL, milliseconds REAL NOT NULL, spread REAL NOT NULL, repeats INTEGER NOT NULL,
    measured_at TEXT NOT NULL,
    PRIMARY KEY (runtime, version, processor, threads, kernel)
) WITHOUT ROWID
"""
_WHERE = "runtime = :runtime AND version = :version AND processor = :processor AND threads = :threads"


@dataclass(frozen=True)
class Environment:
    """What a time is true for."""

    runtime: str
    version: str
    processor: str
    threads: int


class LatencyTable:
    """Times of one environment, in memory and on the disk.

    Arguments:
        environment: where the times are measured.
        path: the file, made if absent; None for `default_path()`.

    Raises:
        WithinError: when the file is damaged, belongs to another program or a later version, or cannot be written.
    """

    def __init__(self, environment: Environment, path: str | Path | None = None) -> None:
        self.environment = environment
        self.path = default_path() if path is None else Path(path)
        self._known: dict[str, KernelTime] = {}
        self._families: dict[str, dict[tuple[int, ...], Point]] = {}
        self._read_changes = -1
        with self._connected() as connection:
            self._prepare(connection)
        self.refresh()

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[tuple[Kernel, KernelTime]]:
        return ((Kernel.from_key(key), found) for key, found in self._known.items())

    def get(self, kernel: Kernel) -> KernelTime | None:
        """Returns the measured time of a kernel."""
        return self._known.get(kernel.key)

    def interpolated(self, kernel: Kernel) -> float | None:
        """Returns the time of an unmeasured kernel, in milliseconds, if it lies inside a measured plateau."""
        family = self._families.get(kernel.family) if kernel.widths else None
        return None if family is None else interpolate(family, kernel.widths)

    def put(self, times: Mapping[Kernel, KernelTime]) -> None:
        """Writes measured times; they are on the disk when this returns. A kernel measured before is replaced."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        place = astuple(self.environment)
        rows = [(*place, kernel.key, *astuple(found), now) for kernel, found in times.items()]
        with self._connected() as connection:
            connection.executemany("INSERT OR REPLACE INTO kernels VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._remember((kernel, found) for kernel, found in times.items())

    def refresh(self) -> None:
        """Reads what other processes have written."""
        with self._connected() as connection:
            rows = connection.execute(
                f"SELECT kernel, milliseconds, spread, repeats FROM kernels WHERE {_WHERE}", asdict(self.environment)
            ).fetchall()
        self._remember((Kernel.from_key(key), KernelTime(*numbers)) for key, *numbers in rows if key not in self._known)

    def _remember(self, times: Iterable[tuple[Kernel, KernelTime]]) -> None:
        for kernel, found in times:
            self._known[kernel.key] = found
            if kernel.widths:
                family = self._families.setdefault(kernel.family, {})
                family[kernel.widths] = (found.milliseconds, found.spread)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")  # one process makes the table, the others wait and find it made
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif application != APPLICATION_ID:
            raise WithinError(
                "The file is a database of another program", where=str(self.path), todo="choose another path"
            )
        elif version != VERSION:
            raise WithinError(
                f"The latency table has version {version}, this program reads {VERSION}",
                where=str(self.path),
                todo="choose another path; it is measured anew",
            )

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Opens the file for one transaction. Connections are not kept: they do not survive a fork."""
        connection = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level="IMMEDIATE")
            with connection:
                yield connection
        except sqlite3.DatabaseError as error:
            raise self._failure(error) from error
        except OSError as error:
            raise WithinError(f"Cannot open the latency table: {error.strerror}", where=str(self.path)) from error
        finally:
            if connection is not None:
                connection.close()

    def _failure(self, error: sqlite3.DatabaseError) -> WithinError:
        if isinstance(error, sqlite3.OperationalError):
            return WithinError(
                f"The latency table cannot be used: {error}",
                where=str(self.path),
                todo="check that the folder can be written and the disk is not full, or choose another path",
            )
        return WithinError(
            f"The latency table is damaged: {error}",
            where=str(self.path),
            todo="remove the file; it is measured anew",
        )


def environment(runtime: str, threads: int) -> Environment:
    """Returns this machine's environment for a runtime.

    Raises:
        WithinError: when the runtime cannot be used here.
    """
    status = next((status for status in runtime_statuses() if status.name == runtime), None)
    if status is None or not status.available:
        raise WithinError(
            f"The runtime {runtime!r} cannot be used here",
            where=status.reason if status else None,
            todo="within doctor",
        )
    return Environment(runtime, status.version, processor(), threads)


def default_path() -> Path:
    """Returns `within/latency.sqlite` in the user's cache folder (`XDG_CACHE_HOME`, by default `~/.cache`)."""
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "within" / "latency.sqlite"


def processor() -> str:
    """Returns the processor's name with family, model and stepping, as virtual machines often name only the maker."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    numbers = "-".join(fields.get(name, "?") for name in ("cpu family", "model", "stepping"))
    return f"{fields['model name']} ({numbers})"
