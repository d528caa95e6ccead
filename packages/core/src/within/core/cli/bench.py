"""`within bench`: measure, print a table, and end with one JSON object."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from within.core.bench import BenchResult, benchmark_folder, benchmark_names, run_benchmark
from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.files import write_json
from within.core.progress import track

ALL = "all"
Name = Annotated[str | None, typer.Argument(metavar="NAME", help="The bench, or 'all'; without it they are listed.")]
Full = Annotated[bool, typer.Option("--full", help="Run the whole study, however long, and store its results.")]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("bench", epilog="Example: within bench solver")(bench)


def bench(name: Name = None, full: Full = False, as_json: Json = False) -> None:
    """Run a benchmark of the source workspace.

    Prints a table and, as the last line, one JSON object. Exits with 1 when a threshold is missed.
    """
    if name is None:
        _list(as_json)
        return
    with standard_output_for_json(as_json):
        if name == ALL:
            results = [run_benchmark(each, full=full) for each in track(benchmark_names(), "benches")]
            result = BenchResult(
                ALL, all(each.passed for each in results), {each.name: each.passed for each in results}
            )
        else:
            results = []
            result = run_benchmark(name, full=full)
        if full:
            for each in results or [result]:
                _store(each)
    if as_json:
        print(result.json(), flush=True)
    else:
        for each in [*results, result]:
            each.print()
    if not result.passed:
        raise typer.Exit(1)


def _store(result: BenchResult) -> None:
    """Writes what a whole study found beside the benches, with date, commit, machine and command."""
    from within.core.report.provenance import collect_provenance

    record = json.loads(result.json()) | {"provenance": asdict(collect_provenance())}
    path = benchmark_folder() / "results" / f"{result.name}.json"
    write_json(path, record)


def _list(as_json: bool) -> None:
    names = benchmark_names()
    if as_json:
        print_json({"benches": names})
        return
    for each in names:
        console().print(each)
