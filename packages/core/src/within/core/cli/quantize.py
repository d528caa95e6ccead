"""`within quantize`: carry out a configuration of post-training quantisation and leave a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from within.core.cli.output import Config, Json, Output, show_run

if TYPE_CHECKING:
    from within.core.report import ReportContent

Resume = Annotated[bool, typer.Option("--resume", help="Continue the training that was interrupted in this directory.")]

HELP = """Quantise a model after training, and prove that the exported file computes the same.

    model = dict(factory="mynet:build", weights="mynet.safetensors")   # or dict(run="runs/half")

    inputs = [(1, 3, 224, 224)]

    calibration = "mydata:batches"     # a function that returns batches of real inputs

    quantization = dict(weight_bits=8, activation_bits=8, calibrator="entropy", keep_float=["head"])

With mixed = dict(fraction=0.5) every layer gets its own bits: those that change the answers least at half the cost of
8 bits, by an exact knapsack over MACs x bits, or over a table of the device with table="costs.npy".

With training = dict(data="mydata:images", iterations=1000) it goes on with the quantisers in place, imitating the
network in floating point; --resume continues it.

A network that was calibrated by another library comes in with model = dict(factory=..., weights="ptq.pth",
layout="pytorch_quantization") or "modelopt"; it needs no calibration.

Further keys: evaluate, runtimes, exporter, seed, output.

The run directory then holds config.py, plan.json, model.safetensors, model.onnx, metrics.json and report.html, with
the sensitivity of each layer and what stays in floating point.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("quantize", help=HELP, epilog="Example: within quantize int8.py --output runs/int8")(quantize)


def quantize(config: Config, output: Output = None, resume: Resume = False, as_json: Json = False) -> None:
    """Quantise a model after training."""

    def run() -> tuple[Path, ReportContent]:
        from within.core.cli.quantization import run_quantization

        return run_quantization(config, output, resume=resume)

    show_run(run, as_json)
