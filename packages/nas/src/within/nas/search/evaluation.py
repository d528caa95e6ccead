"""Evaluation of architectures by a function: in processes of this machine, on Ray, or out of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from within.core import parallel
from within.core.errors import WithinError
from within.nas.evaluations import Evaluations
from within.nas.search.history import Evaluate, Objectives
from within.nas.spaces import Architecture
from within.nas.tables.table import Table

Function = Callable[[Architecture], Objectives]


def in_parallel(
    function: Function,
    names: Sequence[str],
    *,
    store: Evaluations | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> Evaluate:
    """Returns the evaluation by a function; what is finished is in the store at once, whatever happens to the others.

    Arguments:
        function: gives the objectives of one architecture; can be pickled.
        names: of objectives and costs that it must give.
        store: receives what is finished.
        workers, ray: see `within.core.parallel.map`.
    """

    def evaluate(architectures: Sequence[Architecture]) -> list[Objectives]:
        def keep(architecture: Architecture, found: Any) -> None:
            checked(found, names, f"the evaluation of {list(architecture)}")
            if store is not None:
                store.add(architecture, found)

        return parallel.map(function, architectures, workers=workers, ray=ray, finished=keep, description="Evaluating")

    return evaluate


def from_table(table: Table, names: Sequence[str]) -> Evaluate:
    """Returns the evaluation that looks columns up.

    Raises:
        WithinError: when the table lacks a column, or numbers in it.
    """
    columns = {name: table.labels(name) for name in names}
    rows = {architecture: row for row, architecture in enumerate(table.architectures)}
    return lambda architectures: [
        {name: float(values[rows[each]]) for name, values in columns.items()} for each in architectures
    ]


def checked(found: Any, names: Sequence[str], where: str) -> Objectives:
    """Returns what an evaluation gave.

    Raises:
        WithinError: when it is no mapping, lacks a name, or a number is not finite.
    """
    for name in names:
        value = found.get(name) if isinstance(found, dict) else None
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise WithinError(
                f"The evaluation gave {name} = {value!r}" if isinstance(found, dict) else f"It gave {found!r}",
                where=where,
                todo=f"return finite numbers for {', '.join(names)}, such as {{{names[0]!r}: 0.93}}",
            )
    return found
