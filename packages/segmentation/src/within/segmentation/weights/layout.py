"""Loads a published checkpoint into a network of ours: rename, check every tensor, and only then copy."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from torch import nn

from within.core.checkpoint import load_into, load_tensors, without_parallel_prefix

Renames = Sequence[tuple[str, str]]
"""Regular expressions and their replacements, applied one after the other to each name."""


def renamed(name: str, renames: Renames) -> str:
    """Returns the name here of a tensor of a checkpoint."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def load_published(model: nn.Module, path: str | Path, renames: Renames, *, ignored: Collection[str] = ()) -> None:
    """Copies all tensors of a checkpoint into a model, or none.

    Arguments:
        model: of this package.
        path: a .safetensors file, or a torch file, with or without the `module.` of parallel training.
        renames: from the checkpoint's names to the model's; names that are the model's already are left alone.
        ignored: tensors of the checkpoint that are no weights.

    Raises:
        WithinError: when the file is missing, damaged, or could run code; when tensors are missing, unexpected or of
            another shape, as in a checkpoint of another depth, width, or number of classes; or when one holds NaN.
    """
    tensors = without_parallel_prefix(load_tensors(path))
    state = {renamed(name, renames): tensor for name, tensor in tensors.items() if name not in ignored}
    # Files from before PyTorch 0.4.1 have no counters of batches.
    counters = {name: own for name, own in model.state_dict().items() if name.endswith(".num_batches_tracked")}
    load_into(model, counters | state, where=str(path))
