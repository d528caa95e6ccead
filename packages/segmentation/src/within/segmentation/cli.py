"""`within segmentation`: train, evaluate, compress, study, export and time segmentation networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from within.core.cli.domain_options import (
    Config,
    Device,
    Names,
    NeededConfig,
    Network,
    OnnxFile,
    Opset,
    Repeats,
    Resume,
    Run,
    Settings,
    Target,
    Weights,
    domain_application,
)
from within.core.cli.options import height_width, read_job, read_settings, show, show_table
from within.core.cli.output import Json, console, print_json, show_run, standard_output_for_json

if TYPE_CHECKING:
    from within.core.report import ReportContent

app = domain_application(
    "Semantic segmentation: SwiftNet and ESPNet, pruned and quantised for a device.",
    example="within segmentation networks",
)

Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="CamVid, Cityscapes or ADE20K, laid out as published.")
]
Size = Annotated[str | None, typer.Option("--size", metavar="HxW", help="Height and width at which the network works.")]
Sizes = Annotated[list[str] | None, typer.Option("--size", metavar="HxW", help="May be given several times.")]


@app.command(epilog="Example: within segmentation train camvid.py --run runs/camvid --set schedule.epochs=40")
def train(
    config: NeededConfig,
    run: Run = None,
    resume: Resume = False,
    device: Device = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a network.

    The run directory receives config.py, plan.json, model.safetensors (the best weights), training.json, logs and
    checkpoints. Nested settings have dots: --set schedule.batch_size=8.
    """
    with standard_output_for_json(as_json):
        from within.segmentation.train import main

        result = main(config, run_directory=run, resume=resume, device=device, overrides=read_settings(settings))
    show(result.to_json(), as_json, "training")


@app.command(
    name="eval", epilog="Example: within segmentation eval -n espnet_camvid -w espnet.safetensors --data camvid"
)
def evaluate(
    config: Config = None,
    network: Network = None,
    weights: Weights = None,
    data: Data = None,
    split: Annotated[str | None, typer.Option("--split", help="Part of the data set; val by default.")] = None,
    size: Size = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", metavar="NAMES", help="Of the network's outputs, where their order is another."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="First images only.")] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="DIR", help="Keep the predictions as PNG.")] = None,
    device: Device = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Measure mean intersection over union on your images.

    Give a configuration, or --network, --weights and --data. Void pixels are treated in all three conventions: V0 void
    ignored, V1 void pixels count as false alarms, V2 void predictions are dropped too.
    """
    given = {
        "network": network, "weights": weights, "data": data, "split": split, "limit": limit, "save": save,
        "size": None if size is None else height_width(size), "device": device,
        "classes": None if classes is None else [name.strip() for name in classes.split(",")],
        "arguments": read_settings(settings) or None,
    }  # fmt: skip
    job = read_job(config, given)
    with standard_output_for_json(as_json):
        from within.segmentation.eval import main

        found = main(job)
    show_table(found.to_json(), as_json, found.table)


@app.command(
    epilog="Example: within segmentation compress -n runs/camvid --data camvid --stages 1,2,3,4 --size 256x512"
)
def compress(
    config: Config = None,
    network: Network = None,
    weights: Weights = None,
    data: Data = None,
    stages: Annotated[
        str | None, typer.Option("--stages", metavar="1,2", help="Cut these stages to --fraction of their widths.")
    ] = None,
    fraction: Annotated[float | None, typer.Option("--fraction", metavar="F", help="One half by default.")] = None,
    size: Size = None,
    run: Run = None,
    resume: Resume = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Cut, fine-tune and quantise a network, and report what it costs and what it gains.

    Give a configuration, or --network, --weights and --data; nothing is cut without --stages. Settings have dots:
    --set fine_tuning.epochs=20, --set budgets.macs=0.5.
    """
    given: dict[str, Any] = {
        "network": network, "weights": weights, "data": data, "fraction": fraction,
        "stages": None if stages is None else _numbers(stages), "size": None if size is None else height_width(size),
    }  # fmt: skip
    job = read_job(config, given)

    def compressed() -> tuple[Path, ReportContent]:
        from within.segmentation.compress import main

        result = main(job, run_directory=run, resume=resume, overrides=read_settings(settings))
        return result.folder, result.content

    show_run(compressed, as_json)


@app.command(epilog="Example: within segmentation study camvid_study.py --run runs/study")
def study(
    config: NeededConfig,
    run: Run = None,
    device: Device = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a dense network and its pruned forms from three starts: rewound (LTH), trained on (FT), random (RI).

    What is finished in the run directory is not done again, so an interrupted study continues.
    """
    with standard_output_for_json(as_json):
        from dataclasses import asdict

        from within.segmentation.study import main, table

        folder, results = main(config, run_directory=run, device=device, overrides=read_settings(settings))
    show_table({"run": str(folder), "networks": [asdict(each) for each in results]}, as_json, lambda: table(results))


@app.command(epilog="Example: within segmentation export runs/half half.onnx --size 512x1024 --size 256x512")
def export(
    target: Target,
    output: OnnxFile,
    weights: Weights = None,
    size: Sizes = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to 8 bits; needs --data.")] = False,
    data: Data = None,
    images: Annotated[int | None, typer.Option("--images", help="To calibrate on; 32 by default.")] = None,
    device_target: Annotated[
        str | None, typer.Option("--target", help="cpu (unsigned activations) or tensorrt (signed).")
    ] = None,
    opset: Opset = 20,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX, verified against it.

    Scores are resized bilinearly, never by nearest neighbour. With one --size the others stay open where the network
    allows it; several write a file each.
    """
    with standard_output_for_json(as_json):
        from within.segmentation.export import main

        found = main(
            {
                "network": target, "weights": weights, "arguments": read_settings(settings) or None, "output": output,
                "sizes": None if size is None else [height_width(each) for each in size], "opset": opset,
                "int8": int8, "data": data, "images": images, "target": device_target,
            }
        )  # fmt: skip
    if as_json:
        print_json({"files": [each.to_json() for each in found]})
        return
    for each in found:
        sizes = "x".join(map(str, each.size)) + ("" if each.fixed else " and other sizes")
        unit = "units of the scores' grid" if each.int8 else "of the largest score"
        console().print(
            f"Wrote {each.path}, {each.file_bytes / 2**20:.2f} MiB, for {sizes}: largest difference "
            f"{each.largest_difference:.1e} {unit}, the same class in {each.argmax_agreement:.3%} of the pixels",
            markup=False,
            soft_wrap=True,
        )


@app.command(epilog="Example: within segmentation bench swiftnet_pyramid_rn18 --size 256x512 --stages 1,2")
def bench(
    target: Annotated[str, typer.Argument(metavar="NETWORK", help="A SwiftNet on a ResNet, or a run directory.")],
    weights: Weights = None,
    size: Annotated[str, typer.Option("--size", metavar="HxW", help="Of the full image.")] = "256x512",
    stages: Annotated[str, typer.Option("--stages", metavar="1,2", help="Cut for the pruned rows.")] = "1,2,3,4",
    fraction: Annotated[float, typer.Option("--fraction", metavar="F", help="Of their widths.")] = 0.5,
    runtime: Annotated[str, typer.Option("--runtime", help="onnxruntime, openvino, eager, ...")] = "onnxruntime",
    repeats: Repeats = 20,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Time every block of the encoder at every level of the image pyramid, dense and pruned, and fit a latency model.

    Thread CPU time of one thread, networks in turns. In brackets: the model's error, as fitted and foretold from the
    other cells.
    """
    with standard_output_for_json(as_json):
        from dataclasses import asdict

        from within.segmentation.levels import as_table, dense_and_pruned, latency_table
        from within.segmentation.named_network import open_network

        at = height_width(size)
        dense = open_network(target, weights=weights, arguments=read_settings(settings)).model
        cells = latency_table(
            dense_and_pruned(dense, at, _numbers(stages), fraction), at, runtime=runtime, repeats=repeats
        )
    show_table(
        {"size": list(at), "runtime": runtime, "cells": [asdict(cell) for cell in cells]},
        as_json,
        lambda: as_table(cells),
    )


@app.command(epilog="Example: within segmentation networks --size 1024x2048")
def networks(
    names: Names = None,
    size: Annotated[str, typer.Option("--size", metavar="HxW", help="Count at this image size.")] = "512x1024",
    as_json: Json = False,
) -> None:
    """List the networks with their parameters, multiply-accumulates and peak memory."""
    at = height_width(size)
    with standard_output_for_json(as_json):
        from within.segmentation.network_table import as_table, table_rows

        rows = table_rows(names, at)
    show_table({"size": list(at), "networks": rows}, as_json, lambda: as_table(rows, at))


def _numbers(text: str) -> list[int]:
    from within.core.errors import WithinError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise WithinError(f"{text!r} is no list of stages", where="--stages", todo="write for instance 1,2") from None
