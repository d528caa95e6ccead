"""Trained weights in the repository: packed files of at most 4 MB, with at most 2^bits different values a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.packing import PackSettings, pack, unpack

MOST_VALUES = 4_500_000  # of one file, which stays below 4 MB


def store(state: Mapping[str, Tensor], folder: Path, name: str, bits: int) -> list[Path]:
    """Writes a state dict as `NAME_1.packed` and so on, and returns the files."""
    parts: list[dict[str, Tensor]] = [{}]
    for key, tensor in state.items():
        if sum(value.numel() for value in parts[-1].values()) + tensor.numel() > MOST_VALUES:
            parts.append({})
        parts[-1][key] = tensor
    for old in folder.glob(f"{name}_*.packed"):
        old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}_{number}.packed" for number in range(1, len(parts) + 1)]
    for part, path in zip(parts, paths, strict=True):
        pack(part, path, PackSettings(bits=bits))
    return paths


def filled(network: nn.Module, folder: Path, name: str, *, made_by: str) -> nn.Module:
    """Returns the network with stored weights, in evaluation mode.

    Raises:
        WithinError: when files are missing or damaged, with the command that makes them.
    """
    paths = sorted(folder.glob(f"{name}_*.packed"))
    if not paths:
        raise WithinError(f"The trained {name} network is not there", where=str(folder), todo=f"run {made_by}")
    state: dict[str, Tensor] = {}
    for path in paths:
        state |= unpack(path)
    network.load_state_dict(state)
    return network.eval()
