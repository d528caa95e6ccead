"""Writes the report of a finished run anew: `within nas report`."""

from __future__ import annotations

from pathlib import Path

from within.core.cli.configuration import load_config
from within.core.cli.run_directory import CONFIG
from within.core.report import ReportContent
from within.nas import rank, search_job


def main(run: str | Path) -> tuple[Path, ReportContent]:
    """Returns the run directory and its report.

    Raises:
        WithinError: when the directory holds no finished ranking or search.
    """
    folder = Path(run)
    job = search_job if "methods" in load_config(folder / CONFIG) else rank
    return folder, job.report(folder)
