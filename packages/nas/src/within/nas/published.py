"""Published tables of architecture search, run again on a user's copy of the measurements.

A table is a configuration under `tools/reproduce`. Its key `run` names `ranking` or `searching`, its key `config` a
configuration of `within nas rank` or `within nas search`, and `file` the table under the data folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from within.core.bench import benchmark_folder
from within.core.errors import WithinError
from within.core.report import ReportTable
from within.nas import rank, search_job

RUNS = Path("runs")


def ranking(config: Mapping[str, Any], data: Path) -> ReportTable:
    """Trains what is not yet in `runs/NAME`, and returns Kendall's tau beside the published figures.

    Raises:
        WithinError: when the table is missing, or as `within.nas.rank.main` does.
    """
    return _first_table(rank.main, config, data)


def searching(config: Mapping[str, Any], data: Path) -> ReportTable:
    """Searches for what is not yet in `runs/NAME`, and returns the table of methods.

    Raises:
        WithinError: when the table is missing, or as `within.nas.search_job.main` does.
    """
    return _first_table(search_job.main, config, data)


def _first_table(main: Any, config: Mapping[str, Any], data: Path) -> ReportTable:
    path = data / str(config["file"])
    if not path.is_file():
        raise WithinError("The table is not there", where=str(path), todo=str(config["data"]))
    packages = benchmark_folder().parents[1] / "packages" / "nas" / "configs"
    chosen = packages / str(config["config"])
    overrides = {"path": str(path), **dict(config.get("settings", {}))}
    run = RUNS / f"reproduce-{chosen.stem}"
    _, content = main(chosen, run_directory=run, resume=True, overrides=overrides)
    found: ReportTable = content.tables[0]
    return ReportTable(str(config["title"]), found.columns, found.rows, f"{found.note} Trainings are kept in {run}.")
