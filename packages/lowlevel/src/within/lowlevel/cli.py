"""`within lowlevel`: train, evaluate, compress, plan tiles for and export restoration networks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from within.core.cli.domain_options import Device, Names, Opset, Resume, Run, Settings, Weights, domain_application
from within.core.cli.options import cell, from_file, height_width, read_job, read_settings, show
from within.core.cli.output import Json, console, print_json, show_run, standard_output_for_json

if TYPE_CHECKING:
    from within.core.report import ReportContent

app = domain_application(
    "Image restoration: networks that fit into memory.",
    example="within lowlevel networks",
)

Config = Annotated[
    Path | None,
    typer.Argument(metavar="CONFIG", help="A configuration in Python, or an option file of BasicSR (.yml)."),
]
Network = Annotated[
    str | None,
    typer.Option(
        "--network", "-n", metavar="NAME", help="A variant (see `networks`), basicsr:NAME, or a run directory."
    ),
]
Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="A folder of clean images.")]
Size = Annotated[str | None, typer.Option("--size", metavar="HxW", help="Height and width of the image.")]
Sigma = Annotated[float | None, typer.Option("--sigma", help="Of Gaussian noise, on the scale 0..255.")]
Budget = Annotated[float | None, typer.Option("--budget-mib", metavar="X", help="Peak memory in MiB (2^20 bytes).")]


@app.command(epilog="Example: within lowlevel train unet_denoise.py --run runs/unet --set iterations=2000")
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration, or an option file of BasicSR.")],
    run: Run = None,
    resume: Resume = False,
    device: Device = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a network.

    The run directory receives config.py, model.safetensors, training.json, logs and checkpoints. Nested settings have
    dots: --set train.patch_size=64.
    """
    with standard_output_for_json(as_json):
        from within.lowlevel.train import main

        result = main(config, run_directory=run, resume=resume, device=device, overrides=read_settings(settings))
    show(result.to_json(), as_json, "training")


@app.command(name="eval", epilog="Example: within lowlevel eval -n dncnn_s -w dncnn25.pth --data Set12 --sigma 25")
def evaluate(
    config: Config = None,
    network: Network = None,
    weights: Weights = None,
    data: Data = None,
    data_lq: Annotated[
        Path | None, typer.Option("--data-lq", metavar="DIR", help="The degraded images, where they are files.")
    ] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", metavar="NAME", help="That of a table.")] = None,
    sigma: Sigma = None,
    filename_template: Annotated[
        str | None, typer.Option("--filename-template", help='Of the degraded images, as in "{}x4".')
    ] = None,
    self_ensemble: Annotated[bool, typer.Option("--self-ensemble", help="Average eight flips and turns.")] = False,
    save_folder: Annotated[Path | None, typer.Option("--save", metavar="DIR", help="Keep the images.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that are no images.")] = False,
    device: Device = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Measure PSNR and SSIM on your images.

    Give a configuration, or --network, --weights and --data. Without --data-lq the images are degraded here: by noise
    of --sigma, or by bicubic downscaling for super-resolution.
    """
    given = {
        "network": network, "weights": weights, "data": data, "data_lq": data_lq, "protocol": protocol, "sigma": sigma,
        "filename_template": filename_template, "self_ensemble": self_ensemble or None, "save_folder": save_folder,
        "skip_bad": skip_bad or None, "device": device, "overrides": read_settings(settings) or None,
    }  # fmt: skip
    with standard_output_for_json(as_json):
        from within.lowlevel.evaluations import evaluate_file, evaluate_settings

        if from_file(config, given):
            results = evaluate_file(config)
        else:
            results = {Path(data).name if data else "data": evaluate_settings(given)}
    if as_json:
        print_json({"results": {name: result.to_json() for name, result in results.items()}})
        return
    for name, result in results.items():
        columns, rows = result.table()
        table = Table(columns[0], title=escape(name))
        for column in columns[1:]:
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(escape(str(row[0])), *(f"{value:.4f}" for value in row[1:]))
        console().print(table)


@app.command(epilog="Example: within lowlevel compress -n dncnn_s -w dncnn.pth --data photos --sigma 25 --fraction 0.5")
def compress(
    config: Config = None,
    network: Network = None,
    weights: Weights = None,
    data: Data = None,
    test: Annotated[Path | None, typer.Option("--test", metavar="DIR", help="Held-out images to measure on.")] = None,
    budget_mib: Budget = None,
    fraction: Annotated[float | None, typer.Option("--fraction", metavar="F", help="Of the dense peak.")] = None,
    size: Size = None,
    sigma: Sigma = None,
    method: Annotated[str | None, typer.Option("--method", metavar="NAME", help="How widths are found.")] = None,
    run: Run = None,
    resume: Resume = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Fit a network into a budget of peak memory.

    Give a configuration, or --network, --weights, --data (clean images to calibrate and fine-tune on), one of
    --budget-mib and --fraction, and --size, the image for which the budget holds. Nested settings have dots:
    --set fine_tuning.iterations=500.
    """
    given: dict[str, Any] = {
        "network": network, "weights": weights, "images": data, "test": test, "budget_mib": budget_mib,
        "fraction": fraction, "size": None if size is None else height_width(size), "sigma": sigma, "method": method,
    }  # fmt: skip
    job = read_job(config, given)

    def compressed() -> tuple[Path, ReportContent]:
        from within.lowlevel.compress import main

        result = main(job, run_directory=run, resume=resume, overrides=read_settings(settings))
        return result.folder, result.content

    show_run(compressed, as_json)


@app.command(epilog="Example: within lowlevel plan --network edsr_baseline_x4 --size 1080x1920 --budget-mib 2000")
def plan(
    network: Annotated[str, typer.Option("--network", "-n", metavar="NAME", help="A variant, basicsr:NAME, or a run.")],
    size: Annotated[str, typer.Option("--size", metavar="HxW", help="Height and width of the image.")],
    budget_mib: Annotated[float, typer.Option("--budget-mib", metavar="X", help="Peak memory in MiB (2^20 bytes).")],
    workspace: Annotated[
        bool, typer.Option("--workspace", help="Count scratch memory of PyTorch on a CPU as well, as calibrated.")
    ] = False,
    allow_inexact: Annotated[
        bool, typer.Option("--allow-inexact", help="Plan for networks that look at the whole image, too.")
    ] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Cut an image into the largest tiles that fit into memory.

    The budget is for all live tensors, input and output image included. Tiles that would change the result are refused.
    """
    height, width = height_width(size)
    with standard_output_for_json(as_json):
        from dataclasses import asdict

        from within.core.cost import PeakMemory
        from within.core.device.workspace import graph_workspace
        from within.lowlevel.named_network import open_network
        from within.lowlevel.tiles import plan as plan_tiles

        named = open_network(network, arguments=read_settings(settings))
        memory = PeakMemory(graph_workspace()) if workspace else PeakMemory()
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            found = plan_tiles(
                named.model, budget_mib * 2**20, height, width, channels=named.channels, memory=memory,
                others=named.other_inputs(25.0), allow_inexact=allow_inexact,
            )  # fmt: skip
    for each in noted:
        if each.category is UserWarning:
            typer.echo(f"within: {each.message}", err=True)
    record = {"network": network, **asdict(found), "computed": found.computed, "budget_bytes": budget_mib * 2**20}
    show(record, as_json, f"{network} at {height} x {width}")


@app.command(epilog="Example: within lowlevel export runs/half half.onnx")
def export(
    target: Annotated[str, typer.Argument(metavar="NETWORK", help="A run directory, a variant, or basicsr:NAME.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The ONNX file; two more are written beside it.")],
    weights: Weights = None,
    size: Size = None,
    sigma: Annotated[
        float | None, typer.Option("--sigma", help="Noise level to fix, for a network that is told it.")
    ] = None,
    opset: Opset = 20,
    fixed: Annotated[bool, typer.Option("--fixed", help="Fix batch, height and width.")] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX, verified against it at two sizes, and as safetensors with JSON.

    Height and width stay open, as multiples of what the network needs.
    """
    with standard_output_for_json(as_json):
        from within.lowlevel.export import main

        exported = main(
            {
                "network": target, "weights": weights, "arguments": read_settings(settings), "output": output,
                "size": None if size is None else height_width(size), "sigma": sigma, "opset": opset,
                "dynamic": not fixed,
            }
        )  # fmt: skip
    if as_json:
        print_json(exported.to_json())
        return
    check, out = exported.onnx.verification, console()
    for path in (exported.onnx.path, exported.weights, exported.description):
        out.print(f"Wrote {path}, {path.stat().st_size / 2**20:.2f} MiB", markup=False)
    sizes = " and ".join("x".join(map(str, shapes[0])) for shapes in check.shapes)
    out.print(f"Verified at {sizes}: largest difference {check.max_relative:.1e} of the largest output")
    if exported.onnx.static_reason:
        out.print(f"Some sizes are fixed: {exported.onnx.static_reason}", markup=False)


@app.command(epilog="Example: within lowlevel networks dncnn_s unet --size 512x512")
def networks(
    names: Names = None,
    task: Annotated[str | None, typer.Option("--task", help="denoise, sr, deblur, enhance or translate.")] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="Trace at this image size: MACs and peak memory there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the networks with their parameters, MACs and, at a size of your own, peak memory.

    Without --size MACs are those of the published input size.
    """
    at = None if size is None else height_width(size)
    with standard_output_for_json(as_json):
        from within.lowlevel.network_table import table_rows

        rows = table_rows(names, task=task, size=at)
    if as_json:
        print_json({"networks": rows})
        return
    columns = {"name": "name", "task": "task", "scale": "scale", "parameters": "parameters", "macs": "MACs"}
    columns |= {"size": "at"} | ({"peak_memory": "peak memory"} if at else {"published": "published"})
    table = Table()
    for key, heading in columns.items():
        table.add_column(heading, justify="left" if key in ("name", "task", "published") else "right")
    for row in rows:
        table.add_row(*(cell(key, row[key]) for key in columns))
    console().print(table)
