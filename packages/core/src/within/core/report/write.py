"""Writes a report into a run directory, and reads it back: `metrics.json` holds all of it except the pixels."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from within.core.errors import WithinError
from within.core.files import atomic_write, read_json, write_json
from within.core.report.content import (
    AliveTensor,
    BudgetRow,
    Certificate,
    CostRow,
    GroupWidth,
    MemoryTimeline,
    Notice,
    Provenance,
    QualityRow,
    ReportContent,
    ReportTable,
)
from within.core.report.page import page

METRICS, PAGE = "metrics.json", "report.html"
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def write_report(run_directory: str | Path, content: ReportContent) -> Path:
    """Writes `metrics.json` and `report.html`, each atomically.

    Returns:
        The path of the page.

    Raises:
        WithinError: when the directory cannot be written.
    """
    folder = Path(run_directory)
    write_json(folder / METRICS, metrics(content))
    with atomic_write(folder / PAGE) as temporary:
        temporary.write_text(page(content), encoding="utf-8")
    return folder / PAGE


def metrics(content: ReportContent) -> dict[str, Any]:
    """Returns the content as JSON-serialisable values; image strips keep captions and PSNR but not the pixels.

    Derived figures (`ratio`, `prediction_error`, `held`, `peak`) are written out for whoever reads the file.
    """
    record = _plain({field.name: getattr(content, field.name) for field in dataclasses.fields(content)})
    for row, cost in zip(record["costs"], content.costs, strict=True):
        row.update(_plain({"ratio": cost.ratio, "prediction_error": cost.prediction_error}))
    for row, budget in zip(record["budgets"], content.budgets, strict=True):
        row["held"] = budget.held
    for row, timeline in zip(record["memory"], content.memory, strict=True):
        row["peak"] = timeline.peak
    return record


def read_report(run_directory: str | Path) -> ReportContent:
    """Returns the content of a run directory, without its image strips.

    Raises:
        WithinError: when there is no `metrics.json`, or it is not one of ours.
    """
    path = Path(run_directory) / METRICS
    if not path.is_file():
        raise WithinError(
            "There is no report here", where=str(path), todo="give a run directory that holds metrics.json"
        )
    record = read_json(path)
    try:
        return ReportContent(
            title=record["title"],
            summary=record["summary"],
            quality=_rows(QualityRow, record["quality"]),
            costs=_rows(CostRow, record["costs"]),
            budgets=_rows(BudgetRow, record["budgets"]),
            certificate=_row(Certificate, record["certificate"]),
            memory=tuple(_timeline(row) for row in record["memory"]),
            widths=_rows(GroupWidth, record["widths"]),
            tables=tuple(_table(row) for row in record["tables"]),
            notices=_rows(Notice, record["notices"]),
            provenance=_row(Provenance, record["provenance"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WithinError(
            f"The file is not a report of this version ({type(error).__name__}: {error})",
            where=str(path),
            todo="run the compression again",
        ) from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "dtype"):
        return _plain(value.item()) if value.ndim == 0 else {"shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity; PSNR does
    return value


def _row(kind: type[Any], record: dict[str, Any] | None) -> Any:
    if record is None:
        return None
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: _revive(value) for name, value in record.items() if name in names})


def _rows(kind: type[Any], records: list[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(_row(kind, record) for record in records)


def _revive(value: Any) -> Any:
    if isinstance(value, str):
        return NOT_FINITE.get(value, value)
    return tuple(_revive(item) for item in value) if isinstance(value, list) else value


def _timeline(record: dict[str, Any]) -> MemoryTimeline:
    alive = _rows(AliveTensor, record["alive_at_peak"])
    return dataclasses.replace(_row(MemoryTimeline, {**record, "alive_at_peak": []}), alive_at_peak=alive)


def _table(record: dict[str, Any]) -> ReportTable:
    return _row(ReportTable, record)
