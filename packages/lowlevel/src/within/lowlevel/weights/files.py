"""Reads a file of weights, whatever its format: safetensors, torch, MATLAB.

The content decides, not the extension. Nothing in a file is ever executed: torch files are read with `weights_only`.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from within.core.errors import WithinError
from within.lowlevel.weights.matconvnet import read_matconvnet

# Checkpoints wrap the tensors under one of these; averaged weights come first, because they are what is published.
WRAPPERS = ("params_ema", "params", "state_dict", "model")


def read_weights(path: str | Path, *, wrapper: str | None = None) -> dict[str, Tensor]:
    """Returns the tensors of a file by name, as they are in the file.

    Arguments:
        path: a safetensors file, a torch checkpoint (either format), or a MatConvNet network in a MATLAB file.
        wrapper: the entry of a checkpoint that holds the tensors; by default the first of `WRAPPERS` that exists.

    Raises:
        WithinError: when the file is absent, cut short or of another kind, holds Python objects that could run code,
            or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WithinError("There is no such file of weights", where=str(path))
    with open(path, "rb") as handle:
        start = handle.read(16)
    if start.startswith(b"MATLAB"):
        return read_matconvnet(path)
    if start.startswith((b"PK", b"\x80")):
        return unwrap(_read_torch(path), wrapper=wrapper, where=str(path))
    if start[8:9] == b"{":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise _damaged(path, "safetensors", error) from error
    raise WithinError(
        "This is not a file of weights that can be read",
        where=str(path),
        todo="give a .safetensors file, a torch checkpoint (.pth, .pt, .ckpt) or a MatConvNet .mat file",
    )


def unwrap(content: Any, *, wrapper: str | None = None, where: str) -> dict[str, Tensor]:
    """Returns the tensors in a checkpoint: takes off wrappers, and the `module.` of parallel training.

    Raises:
        WithinError: when there are none, or something else lies among them.
    """
    if wrapper is not None:
        if not isinstance(content, Mapping) or wrapper not in content:
            raise WithinError(f"The checkpoint has no entry {wrapper!r}", where=where, todo=_entries(content))
        content = content[wrapper]
    while isinstance(content, Mapping):
        inner = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
    if not isinstance(content, Mapping) or not content:
        raise WithinError("The checkpoint holds no tensors", where=where, todo=_entries(content))
    tensors = {str(name): torch.as_tensor(value) for name, value in content.items() if _is_array(value)}
    strangers = [str(name) for name, value in content.items() if not _is_array(value)]
    if strangers:
        raise WithinError(
            f"The checkpoint holds other things than tensors: {', '.join(strangers[:5])}",
            where=where,
            todo=_entries(content),
        )
    while all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of here ends in an error below, or does not matter
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error) and "GLOBAL" not in str(error):
            raise _damaged(path, "torch", error) from error
        raise WithinError(
            "The file holds Python objects besides tensors, and loading those could run code that it brings along, "
            f"so it was not loaded ({_reason(error)})",
            where=str(path),
            todo="ask its author for a safetensors file or a plain state_dict; if you trust the file, load it with "
            "torch yourself and save its state_dict with safetensors",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        if "TorchScript" in str(error):
            raise WithinError(
                "The file is a TorchScript archive, that is a program and not only weights, so it was not loaded",
                where=str(path),
                todo="ask its author for a safetensors file or a plain state_dict",
            ) from error
        raise _damaged(path, "torch", error) from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line]
    return lines[0][:160] if lines else type(error).__name__


def _damaged(path: Path, kind: str, error: Exception) -> WithinError:
    first = (str(error).splitlines() or [""])[0][:160]
    return WithinError(
        f"The {kind} file is damaged or cut short ({type(error).__name__}: {first})",
        where=f"{path} ({path.stat().st_size} bytes)",
        todo="download or copy it again",
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _entries(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"give a state_dict; this is a {type(content).__name__}"
    found = ", ".join(f"{key} ({type(value).__name__})" for key, value in list(content.items())[:8])
    return f"give a state_dict, or name the entry that is one as wrapper; there are {found or 'no entries'}"
