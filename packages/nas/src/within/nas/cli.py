"""`within nas`: rank architectures by learners, search for the best within limits, prepare tables, write reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from within.core.cli.domain_options import NeededConfig, Resume, Run, Settings, domain_application
from within.core.cli.options import read_settings, show, show_table
from within.core.cli.output import Json, RunDirectory, show_run, standard_output_for_json

if TYPE_CHECKING:
    from within.core.report import ReportContent

app = domain_application(
    "Architecture search: predictors that rank networks from few measured ones, and searches within hardware limits.",
    example="within nas spaces",
)

Table = Annotated[str, typer.Argument(metavar="TABLE", help="Which official file it is: nasbench101.")]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="The official file.")]
Target = Annotated[Path, typer.Argument(metavar="OUT.parquet", help="The table to write.")]


@app.command(epilog="Example: within nas rank packages/nas/configs/rank/nasbench201.py --set seeds=[0]")
def rank(
    config: NeededConfig, run: Run = None, resume: Resume = False, settings: Settings = None, as_json: Json = False
) -> None:
    """Train learners on shares of a table and say how well they rank the rest.

    The run directory receives config.py, the scores, metrics.json, plots and report.html. Settings have dots:
    --set split.below=5000.
    """

    def ranked() -> tuple[Path, ReportContent]:
        from within.nas.rank import main

        return main(config, run_directory=run, resume=resume, overrides=read_settings(settings))

    show_run(ranked, as_json)


@app.command(epilog="Example: within nas search packages/nas/configs/search/nasbench201_latency.py --run runs/latency")
def search(
    config: NeededConfig, run: Run = None, resume: Resume = False, settings: Settings = None, as_json: Json = False
) -> None:
    """Search for the best architectures within hard limits, in a table or by a function that evaluates.

    Every evaluation is on the disk before the next begins: --resume goes on after any interruption.
    """

    def searched() -> tuple[Path, ReportContent]:
        from within.nas.search_job import main

        return main(config, run_directory=run, resume=resume, overrides=read_settings(settings))

    show_run(searched, as_json)


@app.command(epilog="Example: within nas prepare nasbench101 nasbench_only108.tfrecord nasbench101.parquet")
def prepare(table: Table, source: Source, target: Target, as_json: Json = False) -> None:
    """Read an official file once and write it as a table."""
    with standard_output_for_json(as_json):
        from within.nas.prepare import main

        found = main(table, source, target)
    show(found, as_json, "table")


@app.command(epilog="Example: within nas report runs/latency")
def report(directory: RunDirectory, as_json: Json = False) -> None:
    """Write report, plots and metrics of a run anew, without training or evaluating."""

    def reported() -> tuple[Path, ReportContent]:
        from within.nas.report import main

        return main(directory)

    show_run(reported, as_json)


@app.command(epilog="Example: within nas spaces --json")
def spaces(as_json: Json = False) -> None:
    """List the spaces with their sizes, and what a random network of each costs."""
    with standard_output_for_json(as_json):
        from within.nas.space_table import as_table, rows

        found = rows()
    show_table({"spaces": found}, as_json, lambda: as_table(found))
