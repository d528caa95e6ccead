"""`within unpack`: a packed file back to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.errors import WithinError

if TYPE_CHECKING:
    from torch import Tensor

File = Annotated[Path, typer.Argument(metavar="FILE", help="A file that `within pack` wrote.", show_default=False)]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The checkpoint; the file with .safetensors by default."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing checkpoint.")]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("unpack", epilog="Example: within unpack model.within --output model.safetensors")(unpack)


def unpack(file: File, output: Output = None, overwrite: Overwrite = False, as_json: Json = False) -> None:
    """Unpack a packed file into a safetensors checkpoint, equal in every bit to what was packed.

    A truncated or altered file is an error, and nothing is written.
    """
    path = output or file.with_suffix(".safetensors")
    with standard_output_for_json(as_json):
        from within.core.packing import unpack as unpack_state

        if path.exists() and not overwrite:
            todo = "choose another name with --output, or pass --overwrite"
            raise WithinError("The checkpoint exists", where=str(path), todo=todo)
        state = unpack_state(file)
        _write(state, path)
    elements = sum(tensor.numel() for tensor in state.values())
    if as_json:
        print_json({"path": str(path), "tensors": len(state), "elements": elements, "bytes": path.stat().st_size})
        return
    console().print(f"Wrote {path}: {len(state)} tensors, {elements:,} elements", soft_wrap=True, markup=False)


def _write(state: dict[str, Tensor], path: Path) -> None:
    """Writes a state dict as safetensors; the second name of a tensor goes to the metadata, where `load` finds it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from within.core.files import atomic_write

    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    shared = {f"shared:{name}": first[id(tensor)] for name, tensor in state.items() if first[id(tensor)] != name}
    stored = {name: state[name] for name in first.values()}
    with atomic_write(path) as temporary:
        try:
            save_file(stored, temporary, metadata={"format": "pt", **shared})
        except SafetensorError as error:  # its only fault here is the disk
            raise OSError(str(error)) from error
