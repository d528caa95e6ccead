"""`within perception3d`: train, evaluate, compress, export and time detectors of objects in point clouds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from within.core.cli.domain_options import (
    Config,
    Device,
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
from within.core.cli.options import read_job, read_settings, show, show_table
from within.core.cli.output import Json, console, print_json, show_run, standard_output_for_json

if TYPE_CHECKING:
    from within.core.report import ReportContent

app = domain_application(
    "3-D perception: CenterPoint, SECOND, PointPillars and PVCNN; Ada3D drops what does not matter.",
    example="within perception3d networks",
)

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="A data set, laid out as published.")]
Split = Annotated[
    str | None, typer.Option("--split", help="train, val, or all for every frame that is there; val by default.")
]
Limit = Annotated[int | None, typer.Option("--limit", help="First frames only.")]


@app.command(epilog="Example: within perception3d generate scenes --count 500")
def generate(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Receives training/ and ImageSets/.")],
    count: Annotated[int, typer.Option("--count", help="Number of frames; one in five is for validation.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives other frames.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes.")] = 1,
    as_json: Json = False,
) -> None:
    """Write synthetic lidar frames in KITTI's format, on which everything here runs.

    Frames that are there already are kept, so an interrupted run continues.
    """
    with standard_output_for_json(as_json):
        from within.perception3d.synthetic_kitti import write_scenes

        write_scenes(directory, count, seed, workers=workers)
    if as_json:
        print_json({"directory": str(directory), "frames": count, "seed": seed})
        return
    console().print(f"{count} frames in {directory}", markup=False, soft_wrap=True)


@app.command(epilog="Example: within perception3d train small.py --run runs/small --set schedule.epochs=4")
def train(
    config: NeededConfig,
    run: Run = None,
    resume: Resume = False,
    device: Device = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a detector, its importance predictor, both with places dropped, or a network on points (PVCNN).

    The run directory receives config.py, plan.json, model.safetensors (the best weights), training.json, logs and
    checkpoints. Nested settings have dots: --set schedule.batch_size=8.
    """
    with standard_output_for_json(as_json):
        from within.perception3d.kinds_of_network import trainer

        result = trainer(config)(
            config, run_directory=run, resume=resume, device=device, overrides=read_settings(settings)
        )
    show(result.to_json(), as_json, "training")


@app.command(name="eval", epilog="Example: within perception3d eval -w runs/small --data scenes")
def evaluate(
    config: Config = None,
    network: Network = None,
    weights: Weights = None,
    data: Data = None,
    split: Split = None,
    limit: Limit = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="DIR", help="Keep detections, a file a frame.")] = None,
    device: Device = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Measure average precision on your frames, or mean IoU on your rooms and parts.

    Give a configuration, or --network, --weights and --data. KITTI: image, bird's-eye, 3-D and orientation at 11 and
    40 recalls; nuScenes: mAP and NDS; ONCE: mAP; S3DIS and ShapeNet: mean IoU.
    """
    given = {
        "network": network, "weights": weights, "data": data, "split": split, "limit": limit, "save": save,
        "device": device, "arguments": read_settings(settings) or None,
    }  # fmt: skip
    job = read_job(config, given)
    with standard_output_for_json(as_json):
        from within.perception3d.kinds_of_network import evaluator

        found = evaluator(job)(job)
    show_table(found.to_json(), as_json, found.table)


@app.command(epilog="Example: within perception3d compress -w runs/importance --data scenes --macs 0.2")
def compress(
    config: Config = None,
    network: Network = None,
    weights: Weights = None,
    data: Data = None,
    macs: Annotated[
        float | None, typer.Option("--macs", metavar="F", help="Multiply-accumulates left, of those of the dense one.")
    ] = None,
    latency: Annotated[
        float | None, typer.Option("--latency", metavar="F", help="CPU time left, of that of the dense one.")
    ] = None,
    run: Run = None,
    resume: Resume = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Choose what is dropped and how wide the 2-D backbone is for a budget, train on, and report.

    The detector must predict importance (a run of the stage `importance`). Settings have dots:
    --set tuning.iterations=500.
    """
    given: dict[str, Any] = {"network": network, "weights": weights, "data": data, "macs": macs, "latency": latency}
    job = read_job(config, given)

    def compressed() -> tuple[Path, ReportContent]:
        from within.perception3d.compress import main

        result = main(job, run_directory=run, resume=resume, overrides=read_settings(settings))
        return result.folder, result.content

    show_run(compressed, as_json)


@app.command(epilog="Example: within perception3d export runs/small small.onnx")
def export(
    target: Target,
    output: OnnxFile,
    weights: Weights = None,
    opset: Opset = 20,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write the part that sees from above as ONNX, norms folded in, verified against the network."""
    with standard_output_for_json(as_json):
        from within.perception3d.export import main

        found = main(
            {
                "network": target, "weights": weights, "arguments": read_settings(settings) or None, "output": output,
                "opset": opset,
            }
        )  # fmt: skip
    if as_json:
        print_json(found.to_json())
        return
    shape = "x".join(map(str, found.input_shape))
    console().print(
        f"Wrote {found.path}, {found.file_bytes / 2**20:.2f} MiB, for maps of {shape}: largest difference "
        f"{found.largest_difference:.1e} of the largest output",
        markup=False,
        soft_wrap=True,
    )


@app.command(epilog="Example: within perception3d bench runs/small --data scenes --limit 10")
def bench(
    target: Target,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="A data set.")],
    weights: Weights = None,
    split: Split = None,
    limit: Limit = 10,
    repeats: Repeats = 5,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Time a detector part by part, dense, masked and sparse in turns, and count what it computes and stores.

    Thread CPU time of one thread, norms folded in.
    """
    with standard_output_for_json(as_json):
        from within.perception3d.detector_timing import main

        found = main(
            {
                "network": target, "weights": weights, "arguments": read_settings(settings) or None, "data": data,
                "split": split, "limit": limit, "repeats": repeats,
            }
        )  # fmt: skip
    show_table(found.to_json(), as_json, found.table)


@app.command(epilog="Example: within perception3d prepare Stanford3dDataset_v1.2_Aligned_Version rooms --workers 8")
def prepare(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="S3DIS as it is published.")],
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Receives the rooms.")],
    workers: Annotated[int, typer.Option("--workers", help="Processes.")] = 1,
    as_json: Json = False,
) -> None:
    """Bring S3DIS into the form that training reads; rooms that are there already are left alone."""
    with standard_output_for_json(as_json):
        from within.perception3d.data.s3dis_blocks import prepare_rooms

        found = prepare_rooms(source, target, workers=workers)
    if as_json:
        print_json({"directory": str(target), "rooms": len(found)})
        return
    console().print(f"{len(found)} rooms in {target}", markup=False, soft_wrap=True)


@app.command(epilog="Example: within perception3d networks")
def networks(as_json: Json = False) -> None:
    """List the networks with their parameters, and the multiply-accumulates of their dense part."""
    with standard_output_for_json(as_json):
        from within.perception3d.network_table import as_table, table_rows

        rows = table_rows()
    show_table({"networks": rows}, as_json, lambda: as_table(rows))
