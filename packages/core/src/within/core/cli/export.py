"""`within export`: an ONNX file that was run against the model it came from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from within.core.cli.configuration import load_config
from within.core.cli.domain_options import Opset
from within.core.cli.factory import FactoryArguments, build_model, build_with_weights, example_inputs, parse_arguments
from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.cli.run_directory import MODEL, dense_of, load_run
from within.core.errors import WithinError

if TYPE_CHECKING:
    import torch

    from within.core.device.export import OnnxModel
    from within.core.quantize import QuantizedOnnx

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="A run directory, a configuration, or a model as MODULE:FACTORY.", show_default=False
    ),
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

    Batch and image size are left open where the model permits it, and the file is run at two sizes. A quantised model
    is written with integer weights and compared with exact integers.
    """
    with standard_output_for_json(as_json):
        from within.core.device.export import export_onnx

        model, examples, path = _source(target, inputs, arguments, output)
        quantised = _export_quantised(model, examples, path, not fixed, opset)
        exported = None if quantised else export_onnx(model, examples, path, dynamic=not fixed, opset=opset)
    if quantised is not None:
        _print_quantised(quantised, as_json)
    if exported is not None:
        _print_exported(exported, as_json)


def _print_exported(exported: OnnxModel, as_json: bool) -> None:
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


def _export_quantised(
    model: torch.nn.Module, examples: tuple[Any, ...], path: Path, dynamic: bool, opset: int
) -> QuantizedOnnx | None:
    """Returns what was written, or None where the model has no quantisers."""
    from torch import fx

    from within.core.quantize import export_quantized
    from within.core.quantize.fake_quantize import FakeQuantize

    if not isinstance(model, fx.GraphModule) or not any(isinstance(part, FakeQuantize) for part in model.modules()):
        return None
    return export_quantized(model.eval(), examples, path, dynamic=dynamic, opset=opset)


def _print_quantised(exported: QuantizedOnnx, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(exported), "path": str(exported.path)})
        return
    out = console()
    out.print(f"Wrote {exported.path}, {exported.file_bytes / 2**20:.2f} MiB")
    out.print(
        f"Verified against exact integers: at most {exported.steps:.3g} steps of an operator's grid, "
        f"{exported.units:.3g} units of the output's"
    )


def _source(
    target: str, inputs: list[str] | None, arguments: list[str] | None, output: Path | None
) -> tuple[torch.nn.Module, tuple[Any, ...], Path]:
    """Returns the model, its example inputs and where to write it."""
    if Path(target).is_dir():
        model, examples = load_run(target)
        if inputs:
            examples = example_inputs(inputs)
        return model, examples, output or Path(target) / MODEL
    if Path(target).is_file() and Path(target).suffix == ".py":
        config = load_config(Path(target)).to_dict()
        record, examples = dense_of(config, where=target)
        return build_with_weights(record).eval(), example_inputs(inputs) if inputs else examples, _named(output, target)
    if not inputs:
        raise WithinError("A model needs the shape of its inputs", where=target, todo="add --input 1x3x224x224")
    path = _named(output, target)
    return build_model(target, parse_arguments(arguments)), example_inputs(inputs), path


def _named(output: Path | None, target: str) -> Path:
    if output is None:
        raise WithinError("Where should the file go?", where=target, todo="add --output model.onnx")
    return output
