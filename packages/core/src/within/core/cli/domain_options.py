"""The options that the commands of the domains have in common, and the application they hang on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A configuration in Python.")]
NeededConfig = Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration in Python.")]
Network = Annotated[
    str | None, typer.Option("--network", "-n", metavar="NAME", help="A variant (see `networks`) or a run directory.")
]
Weights = Annotated[
    Path | None, typer.Option("--weights", "-w", metavar="FILE", help="Its weights, or a run directory.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting or constructor argument; may be given several times."),
]
Run = Annotated[Path | None, typer.Option("--run", metavar="DIR", help="The run directory.")]
Device = Annotated[str | None, typer.Option("--device", help="For instance cpu or cuda.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue where an interrupted run stopped.")]
Target = Annotated[str, typer.Argument(metavar="NETWORK", help="A run directory, or a variant.")]
OnnxFile = Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The ONNX file.")]
Opset = Annotated[int, typer.Option("--opset", help="Version of the ONNX operator set.")]
Repeats = Annotated[int, typer.Option("--repeats", help="Rounds of measurement.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAMES", help="Only these.")]


def domain_application(summary: str, example: str) -> typer.Typer:
    """Returns the application that a domain hangs its commands on.

    Arguments:
        summary: what the domain does.
        example: a first command.
    """
    return typer.Typer(
        help=summary,
        epilog=f"Example: {example}",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
    )
