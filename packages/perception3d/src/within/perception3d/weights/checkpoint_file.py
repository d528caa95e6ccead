"""Files of weights of the public tool boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from within.core.checkpoint import load_tensors, without_parallel_prefix
from within.core.files import atomic_write


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Returns the weights of a run directory, a .safetensors file or a torch file, under the names of the file.

    Raises:
        WithinError: when there is no such file, it is damaged, holds no weights, or holds NaN or infinity.
    """
    return without_parallel_prefix(load_tensors(path))


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
