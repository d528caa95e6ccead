"""`within report`: what a run achieved, on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from within.core.cli.output import Json, RunDirectory, console, print_json
from within.core.files import read_json

Rewrite = Annotated[
    bool, typer.Option("--rewrite", help="Write report.html again from metrics.json, without sample images.")
]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("report", epilog="Example: within report runs/half")(report)


def report(run: RunDirectory, rewrite: Rewrite = False, as_json: Json = False) -> None:
    """Print what a run achieved, and where its page is.

    Every cost is shown before and after, predicted and measured. With --json, prints the run's metrics.json.
    """
    from within.core.report import print_report, read_report, write_report
    from within.core.report.write import METRICS, PAGE

    content = read_report(run)
    page = Path(run) / PAGE
    if rewrite or not page.is_file():
        write_report(run, content)
    if as_json:
        print_json(read_json(Path(run) / METRICS))
        return
    print_report(content, console())
    console().print(f"Page: {page.resolve()}", soft_wrap=True)
