"""`within pack`: a network in the fewest bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from within.core.cli.configuration import load_config
from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.errors import WithinError

if TYPE_CHECKING:
    from within.core.packing import Account

SUFFIX = ".within"
Target = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG_OR_CHECKPOINT",
        help="A configuration in Python, a run directory, or a file of weights.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help=f"The file; the target with the suffix {SUFFIX} by default."),
]
Density = Annotated[
    float | None, typer.Option("--density", help="Share of each weight tensor that stays, the largest magnitudes.")
]
Quality = Annotated[
    float | None, typer.Option("--quality", help="Instead: keep |w| >= QUALITY standard deviations of the tensor.")
]
Bits = Annotated[
    int | None, typer.Option("--bits", help="Share weights: at most 2^BITS values a tensor. Without it none changes.")
]
GapBits = Annotated[
    int | None, typer.Option("--gap-bits", help="Bits of a gap between nonzeros; by default the best for each tensor.")
]
Initial = Annotated[
    str | None, typer.Option("--initial", help="Start of the centroids: linear (the default), density or random.")
]
Huffman = Annotated[
    bool | None, typer.Option("--huffman/--no-huffman", help="Huffman code the streams; on by default.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of the random start; 0 by default.")]

HELP = """Pack a network into one small verified file: Deep Compression.

A checkpoint is packed as it is, in every bit but the signs of zero weights.

With --density, --quality or --bits its weights are pruned and shared first, without training.

A configuration does all of it with retraining:

    model = dict(factory="mynet:build", weights="dense.safetensors")

    density = {"features.*": 0.4, "classifier.*": 0.1}

    bits = {"features.*": 8, "classifier.*": 5}

    data = "mynet:training_data"

    retraining, sharing = 4000, 1000

Further keys: quality, gap_bits, huffman, initial, rounds, early_share, retraining_rate, sharing_rate, surgeon, loss,
batch_size, distillation, evaluate, output, seed.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("pack", help=HELP, epilog="Example: within pack model.safetensors --density 0.1 --bits 5")(pack)


def pack(
    target: Target,
    output: Output = None,
    density: Density = None,
    quality: Quality = None,
    bits: Bits = None,
    gap_bits: GapBits = None,
    initial: Initial = None,
    huffman: Huffman = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Pack a network into one small verified file."""
    options: dict[str, Any] = {"density": density, "quality": quality, "bits": bits, "gap_bits": gap_bits}
    options |= {"initial": initial, "huffman": huffman, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    metrics: dict[str, Any] = {}
    with standard_output_for_json(as_json):
        if target.suffix == ".py":
            account, path, metrics = _from_configuration(target, output, given)
        else:
            account, path = _from_checkpoint(target, output, given)
    if as_json:
        print_json({"path": str(path), **account.as_record(), **metrics})
        return
    _show(account, path, metrics)


def _from_configuration(target: Path, output: Path | None, given: dict[str, Any]) -> tuple[Account, Path, Any]:
    from within.core.cli.packing import read_packing, run_packing

    if given:
        raise WithinError("A configuration says all of this itself", where=f"--{next(iter(given)).replace('_', '-')}")
    configuration = read_packing(load_config(target).to_dict(), where=str(target))
    packed = run_packing(configuration, output or Path(configuration.output or target.with_suffix(SUFFIX)))
    return packed.result.account, packed.result.path, {"before": packed.before, "after": packed.after}


def _from_checkpoint(target: Path, output: Path | None, given: dict[str, Any]) -> tuple[Account, Path]:
    from within.core.checkpoint import load_tensors
    from within.core.cli.packing import prune_state
    from within.core.packing import PackSettings
    from within.core.packing import pack as pack_state

    state = load_tensors(target)
    pruning = {name: given.pop(name) for name in ("density", "quality") if name in given}
    if pruning:
        state = prune_state(state, **pruning)
    path = output or (target / f"model{SUFFIX}" if target.is_dir() else target.with_suffix(SUFFIX))
    result = pack_state(state, path, PackSettings(**given))
    return result.account, result.path


def _show(account: Account, path: Path, metrics: dict[str, Any]) -> None:
    out = console()
    table = Table(
        "tensor", "stored as", "elements", "kept %", "padding", "values", "bits a weight", "bits a gap", "bytes"
    )
    for tensor in account.tensors:
        codes = tensor.encoding in ("sparse", "shared") and tensor.nonzeros
        table.add_row(
            tensor.name,
            tensor.encoding,
            f"{tensor.elements:,}",
            f"{100 * tensor.nonzeros / max(tensor.elements, 1):.1f}" if tensor.encoding != "alias" else "",
            f"{tensor.padding_entries:,}" if codes else "",
            f"{tensor.clusters:,}" if tensor.clusters else "",
            f"{tensor.weights / tensor.nonzeros:.2f}" if codes else "",
            f"{tensor.indices / tensor.nonzeros:.2f}" if codes else "",
            f"{tensor.bits / 8:,.0f}",
        )
    out.print(table)
    parts = ", ".join(f"{name.replace('_', ' ')} {size:,.0f}" for name, size in account.parts.items() if size)
    out.print(f"Bytes: {parts}")
    for when in ("before", "after"):
        if metrics.get(when):
            out.print(
                f"{when.capitalize()}: " + ", ".join(f"{name} {value:g}" for name, value in metrics[when].items())
            )
    sizes = f"{account.file_bytes:,} bytes instead of {account.dense_bytes:,}, {account.rate:.2f} times smaller"
    out.print(f"Wrote {path}: {sizes}", soft_wrap=True, markup=False)
