"""`within demo`: the main job from end to end, on data that comes with the installed packages.

A domain package offers a demo through the entry-point group `within.demos`: a function that takes the run directory
(a `Path`, new and empty) and returns the `ReportContent` of what it did there.
"""

from __future__ import annotations

from importlib import metadata
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from within.core.cli.output import Json, show_run
from within.core.errors import WithinError
from within.core.files import new_run_directory

if TYPE_CHECKING:
    from within.core.report import ReportContent

DEMO_GROUP = "within.demos"
Name = Annotated[str, typer.Argument(help="Which demo.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="Run directory; runs/demo-NAME by default.")
]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("demo", epilog="Example: within demo lowlevel --output runs/demo")(demo)


def demo(name: Name = "lowlevel", output: Output = None, as_json: Json = False) -> None:
    """Fit a trained network into its budget on real data, measure it, and write the report."""
    points = {point.name: point for point in metadata.entry_points(group=DEMO_GROUP)}
    if name not in points:
        known = ", ".join(sorted(points)) or "none; install a domain package such as within-lowlevel"
        raise WithinError(f"There is no demo named {name!r}", todo=f"available: {known}")
    folder = new_run_directory(output if output is not None else _fresh(Path("runs") / f"demo-{name}"))

    def run() -> tuple[Path, ReportContent]:
        from within.core.report import write_report

        content = points[name].load()(folder)
        write_report(folder, content)
        return folder, content

    show_run(run, as_json)


def _fresh(path: Path) -> Path:
    """Returns the path, or with the first number behind it that is not taken: a demo is run more than once."""
    return next(each for number in count(1) if not (each := path if number == 1 else Path(f"{path}-{number}")).exists())
