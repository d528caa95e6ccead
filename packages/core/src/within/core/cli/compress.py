"""`within compress`: carry out a configuration and leave a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from within.core.cli.output import Config, Json, Output, show_run

if TYPE_CHECKING:
    from within.core.report import ReportContent

HELP = """Compress a model to the budgets of a configuration.

The configuration says what to build, at which input, and within which budgets:

    model = dict(factory="mynet:build", arguments=dict(width=48))

    inputs = [(1, 3, 256, 256)]

    budgets = [dict(cost="PeakMemory", fraction=0.5), dict(cost="Macs", limit=2e9)]

Further keys: widths, importance, protect, step, strict, minimum, data, loss, evaluate, runtime, seed, output.

The run directory then holds config.py, plan.json, model.safetensors, model.onnx, metrics.json and report.html.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("compress", help=HELP, epilog="Example: within compress half.py --output runs/half")(compress)


def compress(config: Config, output: Output = None, as_json: Json = False) -> None:
    """Compress a model to the budgets of a configuration."""

    def run() -> tuple[Path, ReportContent]:
        from within.core.cli.compression import run_compression

        return run_compression(config, output)

    show_run(run, as_json)
