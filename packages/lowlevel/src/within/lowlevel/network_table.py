"""The table of networks: what is known of every variant, and what a trace at a size of one's own says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from within.core.cost import Macs, PeakMemory
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.progress import track
from within.lowlevel.models import build, check_size, example_inputs, variant
from within.lowlevel.models import names as all_names


def table_rows(
    names: Sequence[str] | None = None, *, task: str | None = None, size: tuple[int, int] | None = None
) -> list[dict[str, Any]]:
    """Returns a row for each variant.

    Arguments:
        names: only these.
        task: only those made for it.
        size: height and width to trace at; the row then has MACs and peak memory (`live_graph`, bytes) of that size.

    Raises:
        WithinError: for an unknown name or task, and where a network cannot take the size.
    """
    found = [variant(name) for name in names or all_names()]
    tasks = sorted({variant(name).task for name in all_names()})
    if task is not None and task not in tasks:
        raise WithinError(f"There is no task {task!r}", where="--task", todo=f"choose one of: {', '.join(tasks)}")
    chosen = [row for row in found if task in (None, row.task)]
    rows = []
    for row in track(chosen, "networks") if size else chosen:
        record: dict[str, Any] = {
            "name": row.name, "task": row.task, "scale": row.scale, "parameters": row.parameters, "macs": row.macs,
            "size": list(row.size), "published": row.published,
        }  # fmt: skip
        if size is not None:
            model = build(row.name)
            check_size(model, *size)
            graph = trace(model, example_inputs(row.name, *size))
            record |= {"macs": Macs()(graph), "size": list(size), "peak_memory": PeakMemory()(graph)}
        rows.append(record)
    return rows
