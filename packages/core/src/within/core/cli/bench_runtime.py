"""`within bench-runtime`: how fast files are on the runtimes that are here, interleaved in one process."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from within.core.cli.configuration import check_keys, load_config
from within.core.cli.factory import example_inputs
from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.cli.settings import shape_texts
from within.core.errors import WithinError

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="ONNX files, run directories, or one configuration.", show_default=False),
]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", "-i", metavar="SHAPE", help="Shape of each input, as in 1x3x224x224.")
]
Runtimes = Annotated[
    list[str] | None, typer.Option("--runtime", "-r", help="A runtime; onnxruntime by default; may be repeated.")
]
Threads = Annotated[int, typer.Option("--threads", help="Threads of one operator.")]
Repeats = Annotated[int, typer.Option("--repeats", help="Rounds that count.")]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    epilog = "Example: within bench-runtime dense.onnx runs/int8 --input 1x3x224x224 -r onnxruntime -r openvino"
    app.command("bench-runtime", epilog=epilog)(bench_runtime)


def bench_runtime(
    files: Files,
    inputs: Inputs = None,
    runtimes: Runtimes = None,
    threads: Threads = 1,
    repeats: Repeats = 30,
    as_json: Json = False,
) -> None:
    """Time ONNX files against each other on the runtimes that will run them.

    All files on all runtimes take turns in one process, in a new random order each round; CPU time counts. Ratios are
    to the first file on the first runtime, with a 95 % interval.

    A configuration says the same with files = [...], inputs = [...], and if wanted runtimes, threads and repeats.
    """
    if len(files) == 1 and files[0].suffix == ".py":
        config = load_config(files[0]).to_dict()
        check_keys(config, ("files", "inputs", "runtimes", "threads", "repeats"), str(files[0]))
        files, inputs = [Path(each) for each in config.get("files", ())], shape_texts(config.get("inputs", ()))
        runtimes = config.get("runtimes", runtimes)
        threads, repeats = config.get("threads", threads), config.get("repeats", repeats)
    if not files or not inputs:
        raise WithinError("This needs files and the shape of their inputs", todo="add --input 1x3x224x224")
    paths = {str(path): path / "model.onnx" if path.is_dir() else path for path in files}
    for name, path in paths.items():
        if not path.is_file():
            raise WithinError("There is no such model file", where=name)
    with standard_output_for_json(as_json):
        from within.core.device.measure import measure

        kinds = runtimes or ["onnxruntime"]
        pairs = {f"{name} on {kind}": (path, kind) for kind in kinds for name, path in paths.items()}
        timings = measure(
            {label: path for label, (path, _) in pairs.items()},
            example_inputs(inputs),
            runtime={label: kind for label, (_, kind) in pairs.items()},
            threads=threads,
            repeats=repeats,
        )
    if as_json:
        print_json({label: asdict(timing) for label, timing in timings.items()})
        return
    from rich.table import Table

    table = Table("file", "median ms", "quartiles ms", "ratio", "95 % interval")
    for label, timing in timings.items():
        low, high = timing.ratio_interval
        quartiles = f"{timing.lower_quartile * 1e3:.3f} to {timing.upper_quartile * 1e3:.3f}"
        table.add_row(label, f"{timing.median * 1e3:.3f}", quartiles, f"{timing.ratio:.3f}", f"{low:.3f} to {high:.3f}")
    console().print(table)
