"""`within compress`: carry out a configuration and leave a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from within.core.cli.output import Json, console, print_json, standard_output_for_json

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration in Python.", show_default=False)]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="The run directory, instead of the configured one.")
]

HELP = """Compress a model to the budgets of a configuration.

The configuration says what to build, at which input, and within which budgets:

    model = dict(factory="mynet:build", arguments=dict(width=48))

    inputs = [(1, 3, 256, 256)]

    budgets = [dict(cost="PeakMemory", fraction=0.5), dict(cost="Macs", limit=2e9)]

Further keys: widths, importance, protect, data, loss, evaluate, runtime, seed, output.

The run directory then holds config.py, plan.json, model.safetensors, model.onnx, metrics.json and report.html.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("compress", help=HELP, epilog="Example: within compress half.py --output runs/half")(compress)


def compress(config: Config, output: Output = None, as_json: Json = False) -> None:
    """Compress a model to the budgets of a configuration."""
    with standard_output_for_json(as_json):
        from within.core.cli.compression import run_compression
        from within.core.report import print_report
        from within.core.report.write import PAGE, metrics

        folder, content = run_compression(config, output)
    page = (folder / PAGE).resolve()
    if as_json:
        print_json({"run": str(folder), "report": str(page), "metrics": metrics(content)})
        return
    print_report(content, console())
    console().print(f"Report: {page}", soft_wrap=True)
