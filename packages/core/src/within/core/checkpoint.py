"""`save` and `load`: a compressed model is its constructor, its plan and its weights; never a pickle."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from within.core.errors import WithinError
from within.core.files import atomic_write, new_run_directory, write_json
from within.core.plan import Plan, apply, read_plan

PLAN, WEIGHTS, METRICS = "plan.json", "model.safetensors", "metrics.json"
STATES = ("state_dict", "model_state", "model", "params")  # what a torch file may keep its weights under


class Compressed(Protocol):
    """What a compression method returns: the model, the plan that makes it, and figures to keep beside them."""

    @property
    def model(self) -> nn.Module:
        """The compressed model."""
        ...

    @property
    def plan(self) -> Plan:
        """What was done."""
        ...

    def metrics(self) -> dict[str, Any]:
        """JSON values for `metrics.json`."""
        ...


def save(result: Compressed, directory: str | Path, *, resume: bool = False) -> Path:
    """Writes plan, weights and metrics of a result into a run directory.

    Raises:
        WithinError: when the directory exists and is not empty (unless `resume`), or cannot be written.
    """
    folder = new_run_directory(directory, resume=resume)
    save_model(result.model, result.plan, folder)
    write_json(folder / METRICS, result.metrics())
    return folder


def save_model(model: nn.Module, plan: Plan, directory: str | Path) -> None:
    """Writes `plan.json` and `model.safetensors`, each whole or not at all."""
    folder = Path(directory)
    plan.write(folder / PLAN)
    save_weights(model, folder / WEIGHTS)


def save_weights(model: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the state of a model as safetensors; a tensor shared under several names is stored once.

    Raises:
        WithinError: when the file cannot be written; an older one is untouched.
    """
    stored: dict[str, torch.Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    for name, tensor in model.state_dict().items():
        key = (tensor.untyped_storage().data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
        if tensor.numel() and key in first:
            shared[name] = first[key]
        else:
            first[key] = name
            stored[name] = tensor.detach().cpu().contiguous()
    described = {"format": "pt", **(metadata or {}), **{f"shared:{name}": to for name, to in shared.items()}}
    with atomic_write(path) as temporary:
        try:
            save_file(stored, temporary, metadata=described)
        except SafetensorError as error:  # its only fault here is the disk
            raise OSError(str(error)) from error


def load_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Reads a safetensors file.

    Raises:
        WithinError: when it is missing, truncated or not safetensors, or holds NaN or infinity.
    """
    try:
        with safe_open(str(path), framework="pt") as handle:
            state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            metadata = handle.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WithinError(f"Could not read the weights: {error}", where=str(path)) from error
    for key, target in metadata.items():
        if key.startswith("shared:"):
            state[key.removeprefix("shared:")] = state[target]
    check_finite(state, where=str(path))
    return state


def check_finite(state: Mapping[str, torch.Tensor], *, where: str) -> None:
    """Checks the tensors of a file.

    Raises:
        WithinError: naming the first that holds NaN or infinity.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WithinError(
                f"The weights of {name} hold NaN or infinity", where=where, todo="use a checkpoint from before that"
            )


def load(directory: str | Path, build: Callable[[], nn.Module]) -> nn.Module:
    """Rebuilds a compressed model from a run directory.

    Arguments:
        directory: a folder that `save` wrote.
        build: the constructor of the dense model.

    Raises:
        WithinError: when a file is missing or damaged, or the constructor builds another model.
    """
    folder = Path(directory)
    plan = read_plan(folder / PLAN)
    model = apply(plan, build())
    load_into(model, load_state(folder / WEIGHTS), where=str(folder / WEIGHTS))
    return model


def load_into(model: nn.Module, state: Mapping[str, torch.Tensor], *, where: str) -> None:
    """Loads a state into a model strictly.

    Raises:
        WithinError: naming the missing and unexpected keys and the shapes that differ.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    differ = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if missing or unexpected or differ:
        parts = [
            f"{len(items)} {what} ({', '.join(items[:3])}{', ...' if len(items) > 3 else ''})"
            for what, items in (("missing", missing), ("unexpected", unexpected), ("of another shape", differ))
            if items
        ]
        raise WithinError(
            f"The weights are of another architecture: {'; '.join(parts)}",
            where=where,
            todo="build the same dense model",
        )
    model.load_state_dict(dict(state))


class _Nothing:
    """Stands for any object that is no tensor; holds nothing and does nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def load_foreign(path: str | Path) -> Any:
    """Reads a torch file of somebody else without running what it asks for.

    A training checkpoint holds more than weights: the optimizer's state, histories of losses, settings. Objects among
    these are replaced by one that does nothing, so that only tensors and plain values come out. (Objects that are
    containers themselves torch refuses.)

    Raises:
        WithinError: when it needs to run code from the file (an untrusted pickle), or is damaged.
    """
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            named = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
            with torch.serialization.safe_globals([(_Nothing, name) for name in named]):
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can fail in any way
        raise WithinError(
            f"The file cannot be read as plain tensors ({type(error).__name__}); it may hold code, which is never run",
            where=str(path),
            todo="copy it again, or convert it to safetensors in the environment that wrote it",
        ) from error


def load_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Reads the tensors of a run directory, a safetensors file, or a torch file, under the names of the file.

    Raises:
        WithinError: when there is no such file, it is damaged, holds no weights, or holds NaN or infinity.
    """
    file = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise WithinError("There is no such checkpoint", where=str(file))
    if file.suffix == ".safetensors":
        return load_state(file)
    loaded = load_foreign(file)
    for key in STATES:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = {str(name): value for name, value in loaded.items()} if isinstance(loaded, Mapping) else {}
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise WithinError("The file holds no weights", where=str(file), todo="save the model's state_dict()")
    check_finite(tensors, where=str(file))
    return tensors


def without_parallel_prefix(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns weights without the `module.` that parallel training puts before their names."""
    return {re.sub(r"^(module\.)+", "", name): tensor for name, tensor in state.items()}
