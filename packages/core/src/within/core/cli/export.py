"""`within export`: an ONNX file that was run against the model it came from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from within.core.cli.factory import FactoryArguments, build_model, example_inputs, parse_arguments
from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.errors import WithinError

if TYPE_CHECKING:
    import torch

Target = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="A run directory, or a model as MODULE:FACTORY.", show_default=False),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", "-i", metavar="SHAPE", help="Shape of an input, as in 1x3x224x224; a run directory knows its own."
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file; model.onnx of the run by default.")
]
Fixed = Annotated[bool, typer.Option("--fixed", help="Fix batch and image size instead of leaving them open.")]
Opset = Annotated[int, typer.Option("--opset", help="Version of the ONNX operator set.")]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("export", epilog="Example: within export runs/half --output half.onnx")(export)


def export(
    target: Target,
    inputs: Inputs = None,
    arguments: FactoryArguments = None,
    output: Output = None,
    fixed: Fixed = False,
    opset: Opset = 20,
    as_json: Json = False,
) -> None:
    """Write a model as ONNX and verify the file against it.

    Batch and image size are left open where the model permits it, and the file is run at two sizes.
    """
    with standard_output_for_json(as_json):
        from within.core.device.export import export_onnx

        model, examples, path = _source(target, inputs, arguments, output)
        exported = export_onnx(model, examples, path, dynamic=not fixed, opset=opset)
    check = exported.verification
    if as_json:
        print_json({**asdict(exported), "path": str(exported.path)})
        return
    out = console()
    out.print(f"Wrote {exported.path}, {exported.path.stat().st_size / 2**20:.2f} MiB, opset {exported.opset}")
    sizes = ", ".join(" and ".join("x".join(map(str, shape)) for shape in shapes) for shapes in check.shapes)
    out.print(f"Verified at {sizes}: largest difference {check.max_relative:.1e} of the largest output")
    if exported.static_reason:
        out.print(f"Some sizes are fixed: {exported.static_reason}", markup=False)


def _source(
    target: str, inputs: list[str] | None, arguments: list[str] | None, output: Path | None
) -> tuple[torch.nn.Module, tuple[Any, ...], Path]:
    """Returns the model, its example inputs and where to write it."""
    if Path(target).is_dir():
        from within.core.cli.run_directory import MODEL, load_run

        model, examples = load_run(target)
        if inputs:
            examples = example_inputs(inputs)
        return model, examples, output or Path(target) / MODEL
    if not inputs:
        raise WithinError("A model needs the shape of its inputs", where=target, todo="add --input 1x3x224x224")
    if output is None:
        raise WithinError("Where should the file go?", where=target, todo="add --output model.onnx")
    return build_model(target, parse_arguments(arguments)), example_inputs(inputs), output
