"""`within reproduce`: run a published table on your own copy of its data.

A table is a configuration `tools/reproduce/<table>.py` with

    title = "DnCNN on Set12 and BSD68"          # what it reproduces, with the paper
    run = "within.lowlevel.tables:denoising"    # function(config, data: Path) -> ReportTable
    data = "lowlevel"                           # what the data folder must hold, in words

and whatever else that function reads from it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from within.core.bench import benchmark_folder
from within.core.cli.configuration import load_config
from within.core.cli.factory import find_factory
from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.errors import WithinError

if TYPE_CHECKING:
    from within.core.report import ReportTable

Table = Annotated[str | None, typer.Argument(metavar="TABLE", help="The table; without it they are listed.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", envvar="WITHIN_DATA", help="The folder that holds the data set.")
]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("reproduce", epilog="Example: within reproduce denoising --data ~/data/lowlevel")(reproduce)


def reproduce(table: Table = None, data: Data = None, as_json: Json = False) -> None:
    """Reproduce a published table at full size, on your copy of the data."""
    if table is None:
        _list(as_json)
        return
    with standard_output_for_json(as_json):
        result = run_table(table, data)
    if as_json:
        rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
        print_json({"table": table, "title": result.title, "rows": rows, "note": result.note})
        return
    from within.core.report import print_table

    print_table(result, console())


def run_table(name: str, data: Path | None) -> ReportTable:
    """Runs a table's configuration and returns its `ReportTable`.

    Raises:
        WithinError: when there is no such table, no such folder, or the configuration lacks a key.
    """
    path = tables().get(name)
    if path is None:
        known = ", ".join(tables()) or "none yet"
        raise WithinError(f"There is no table named {name!r}", todo=f"choose one of: {known}")
    if data is None or not data.is_dir():
        raise WithinError(
            "There is no such data folder" if data else "This needs a data folder",
            where=f"--data {data}" if data else "--data",
            todo=f"pass --data DIR; what it must hold is said in {path}",
        )
    config = load_config(path)
    if "run" not in config:
        raise WithinError("The table says nothing about how to run it", where=str(path), todo="give it a key `run`")
    root = str(benchmark_folder().parents[1])
    if root not in sys.path:
        sys.path.insert(0, root)  # the readers of data sets are `tools.data.*`
    result: ReportTable = find_factory(config.run)(config, data)
    return result


def tables() -> dict[str, Path]:
    """Returns the tables of the workspace: their names and configurations."""
    return {path.stem: path for path in sorted((benchmark_folder().parent / "reproduce").glob("[a-z]*.py"))}


def _list(as_json: bool) -> None:
    titles = {name: load_config(path).get("title", "") for name, path in tables().items()}
    if as_json:
        print_json({"tables": titles})
        return
    if not titles:
        console().print("No table has a configuration under tools/reproduce yet.")
    for name, title in titles.items():
        console().print(f"{name:24} {title}", markup=False)
