"""`within calibrate`: measure on this machine what operators need beyond their inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.errors import WithinError

Table = Annotated[
    Path,
    typer.Option("--table", metavar="FILE", help="The table. One of this backend and machine is taken up again."),
]
Backend = Annotated[str, typer.Option("--backend", metavar="NAME", help="torch_cpu or torch_cuda.")]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="Measure so many operators at most; the rest another time.")
]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("calibrate", epilog="Example: within calibrate --table workspace.json")(calibrate)


def calibrate(
    table: Table = Path("workspace.json"), backend: Backend = "torch_cpu", limit: Limit = None, as_json: Json = False
) -> None:
    """Measure the scratch memory of operators on this machine, for peaks of the whole process.

    The packaged table is of PyTorch on an x86 CPU. Elsewhere, measure one (minutes) and pass it on:
    PeakMemory(graph_workspace(load_workspace_table("workspace.json"))).
    """
    with standard_output_for_json(as_json):
        from within.core.device.workspace import calibrate_workspace, default_keys, load_workspace_table

        known = load_workspace_table(table) if table.is_file() else None
        if known is not None and (known.backend != backend or not known.holds_here()):
            raise WithinError(
                f"The table is of {known.backend} on another machine or version",
                where=str(table),
                todo="name a new file",
            )
        keys = [key for key in default_keys() if known is None or key not in known.entries]
        measured = calibrate_workspace(backend, keys=keys[:limit], table=known)
        measured.save(table)
    record = {"table": str(table), "backend": backend, "operators": len(measured.entries), "missing": 0}
    record["missing"] = len(keys) - len(keys[:limit])
    if as_json:
        print_json(record)
        return
    console().print(f"{record['operators']} operators measured, {record['missing']} missing: {table}", markup=False)
