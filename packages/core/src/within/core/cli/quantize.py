"""`within quantize`: carry out a configuration of post-training quantisation and leave a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from within.core.cli.output import Json, console, print_json, standard_output_for_json

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration in Python.", show_default=False)]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="The run directory, instead of the configured one.")
]

HELP = """Quantise a model after training, and prove that the exported file computes the same.

    model = dict(factory="mynet:build", weights="mynet.safetensors")   # or dict(run="runs/half")

    inputs = [(1, 3, 224, 224)]

    calibration = "mydata:batches"     # a function that returns batches of real inputs

    quantization = dict(weight_bits=8, activation_bits=8, calibrator="entropy", keep_float=["head"])

Further keys: evaluate, runtimes, exporter, seed, output.

The run directory then holds config.py, plan.json, model.safetensors, model.onnx, metrics.json and report.html, with
the sensitivity of each layer and what stays in floating point.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("quantize", help=HELP, epilog="Example: within quantize int8.py --output runs/int8")(quantize)


def quantize(config: Config, output: Output = None, as_json: Json = False) -> None:
    """Quantise a model after training."""
    with standard_output_for_json(as_json):
        from within.core.cli.quantization import run_quantization
        from within.core.report import print_report
        from within.core.report.write import PAGE, metrics

        folder, content = run_quantization(config, output)
    page = (folder / PAGE).resolve()
    if as_json:
        print_json({"run": str(folder), "report": str(page), "metrics": metrics(content)})
        return
    print_report(content, console())
    console().print(f"Report: {page}", soft_wrap=True)
