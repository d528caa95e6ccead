"""Checkpoints of the public tool boxes, read without running what a pickle may ask for.

A training checkpoint holds more than weights: the optimizer's state, histories of losses, settings. Objects among these
are replaced by one that holds nothing and does nothing, so that only tensors and plain values come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from within.core.checkpoint import WEIGHTS, load_state
from within.core.errors import WithinError
from within.core.files import atomic_write

STATES = ("state_dict", "model_state", "model")  # MMDetection3D's, OpenPCDet's, others'


class _Nothing:
    """Stands for any object that is no tensor."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Returns the weights of a run directory, a .safetensors file or a torch file, under the names of the file.

    Raises:
        WithinError: when there is no such file, it is damaged, holds no weights, or holds NaN or infinity.
    """
    file = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise WithinError("There is no such checkpoint", where=str(file))
    if file.suffix == ".safetensors":
        return load_state(file)
    found = _read_inert(file)
    for key in STATES:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = {str(name): value for name, value in found.items()} if isinstance(found, Mapping) else {}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WithinError("The file holds no weights", where=str(file), todo="save the model's state_dict()")
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WithinError(f"The weights of {name} hold NaN or Inf", where=str(file), todo="use an earlier file")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def write_checkpoint(path: str | Path, state: Mapping[str, Tensor], key: str) -> None:
    """Writes weights as a torch file of plain tensors, whole or not at all.

    Arguments:
        path: of the file.
        state: weights by name.
        key: under which the tool box looks for them.

    Raises:
        WithinError: when it cannot be written.
    """
    with atomic_write(path) as temporary:
        torch.save({"meta": {}, key: {name: value.detach().cpu() for name, value in state.items()}}, temporary)


def _read_inert(file: Path) -> Any:
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
        with torch.serialization.safe_globals([(_Nothing, name) for name in named]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can fail in any way
        raise WithinError(
            f"The file cannot be read as plain tensors ({type(error).__name__}); it may hold code, which is never run",
            where=str(file),
            todo="copy it again, or save its state_dict as safetensors in the environment that wrote it",
        ) from error
