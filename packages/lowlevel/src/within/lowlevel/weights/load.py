"""Loads published weights into a network: finds their layout, converts, checks every tensor, and only then copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.errors import WithinError
from within.lowlevel.models import build, names, variant
from within.lowlevel.weights.batch_norm import has_batch_norm, merge_batch_norm, with_torch_eps
from within.lowlevel.weights.files import read_weights, unwrap
from within.lowlevel.weights.layouts import LAYOUTS, Layout

SHOWN = 5


@dataclass(frozen=True)
class LoadReport:
    """What was loaded, and how.

    Attributes:
        source: the file, or "state_dict".
        layout: whose parameter names the file has.
        loaded: number of tensors copied.
        missing: names the network has and the file lacks; those parameters were left as they were.
        unexpected: names the file has and the network lacks; not loaded.
        mismatched: names whose shapes differ; not loaded.
        merged_batch_norms: normalisations merged into convolutions on the way.
    """

    source: str
    layout: str
    loaded: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    merged_batch_norms: int = 0


def load_weights(
    model: nn.Module,
    path_or_dict: str | Path | Mapping[str, Any],
    *,
    strict: bool = True,
    wrapper: str | None = None,
) -> LoadReport:
    """Copies weights into `model`.

    Arguments:
        model: one of `within.lowlevel.models`, pruned or not.
        path_or_dict: a file (see `read_weights`) or a state_dict, in any published layout (see `LAYOUTS`), with or
            without wrappers and `module.` prefixes. Batch normalisation is merged when the model has none.
        strict: every parameter must be given and fit, and none be left over.
        wrapper: the entry of a checkpoint to take, such as "params".

    Raises:
        WithinError: when the file cannot be read safely; when it is of another network (which names, which shapes);
            when it has merged normalisations and the model separate ones; when a tensor holds NaN or infinity; or,
            not strict, when nothing fits. The model is then as it was.
    """
    state, source = _read(path_or_dict, wrapper)
    _check_finite(state, source)
    target = dict(model.state_dict())
    found = _best_fit(state, target)
    if not found.fitting or (strict and not found.whole):
        raise _misfit(model, found, state, target, source)
    model.load_state_dict({name: found.state[name] for name in found.fitting}, strict=False)
    return LoadReport(
        source,
        found.layout.source,
        len(found.fitting),
        found.missing,
        found.unexpected,
        found.mismatched,
        found.merged_batch_norms,
    )


def identify(path_or_dict: str | Path | Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the variants that the weights fit completely; several where variants differ in nothing but use.

    Raises:
        WithinError: when the file cannot be read safely.
    """
    state, _ = _read(path_or_dict, None)
    return _identify(state)


@dataclass(frozen=True)
class _Fit:
    layout: Layout
    state: dict[str, Tensor]
    fitting: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    merged_batch_norms: int

    @property
    def whole(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)


def _read(path_or_dict: str | Path | Mapping[str, Any], wrapper: str | None) -> tuple[dict[str, Tensor], str]:
    if isinstance(path_or_dict, Mapping):
        return unwrap(path_or_dict, wrapper=wrapper, where="state_dict"), "state_dict"
    state = read_weights(path_or_dict, wrapper=wrapper)
    return unwrap(state, where=str(path_or_dict)), str(path_or_dict)


def _check_finite(state: Mapping[str, Tensor], source: str) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            count = int((~torch.isfinite(tensor)).sum())
            raise WithinError(
                f"The weights hold {count} values that are NaN or infinite, of {tensor.numel()} in {name}",
                where=source,
                todo="use a checkpoint from before training diverged",
            )


def _best_fit(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> _Fit:
    fits = [_fit(layout, state, target) for layout in LAYOUTS]
    return max(fits, key=lambda fit: (len(fit.fitting), len(fit.mismatched), -len(fit.unexpected)))


def _fit(layout: Layout, state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> _Fit:
    renamed = {new: tensor for name, tensor in state.items() if (new := layout.rename(name)) is not None}
    renamed, merged = with_torch_eps(renamed, layout.batch_norm_eps), 0
    if has_batch_norm(renamed) and not has_batch_norm(target):
        # Under a layout that is not the file's, what looks like a normalisation may be none.
        with suppress(WithinError):
            renamed, merged = merge_batch_norm(renamed)
    # Files from before PyTorch 0.4.1 have no such counter, and nothing here reads it.
    missing = [name for name in target if name not in renamed and not name.endswith("num_batches_tracked")]
    common = [name for name in target if name in renamed]
    return _Fit(
        layout,
        renamed,
        tuple(name for name in common if renamed[name].shape == target[name].shape),
        tuple(missing),
        tuple(name for name in renamed if name not in target),
        tuple(name for name in common if renamed[name].shape != target[name].shape),
        merged,
    )


def _misfit(
    model: nn.Module, fit: _Fit, state: Mapping[str, Tensor], target: Mapping[str, Tensor], source: str
) -> WithinError:
    shapes = [f"{name} (file {_shape(fit.state[name])}, network {_shape(target[name])})" for name in fit.mismatched]
    if has_batch_norm(target) and _best_fit(state, merge_batch_norm(target)[0]).whole:
        return WithinError(
            f"The weights have batch normalisation merged into the convolutions, and this {type(model).__name__} has "
            "separate normalisation layers",
            where=source,
            todo="build the merged network: a variant such as dncnn_merged, or batch_norm=False",
        )
    kinds = (("missing", fit.missing), ("unexpected", fit.unexpected), ("of another shape", shapes))
    parts = [f"{len(entries)} {what}: {_first(entries)}" for what, entries in kinds if entries]
    fitting = _identify(state)
    return WithinError(
        f"The weights are not those of this {type(model).__name__}: {len(fit.fitting)} of its {len(target)} tensors "
        f"fit (names read as {fit.layout.source}); {'; '.join(parts)}",
        where=source,
        todo=f"they fit {', '.join(fitting)}" if fitting else "build the network that the file was made for",
    )


def _identify(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Builds the variants that have as many parameters, without memory, and compares."""
    counts = {_parameters(layout, state) for layout in LAYOUTS}
    fitting = []
    for name in names():
        if variant(name).parameters not in counts:
            continue
        with torch.device("meta"):
            target = build(name).state_dict()
        if has_batch_norm(target) == has_batch_norm(state) and _best_fit(state, target).whole:
            fitting.append(name)
    return tuple(fitting)


def _parameters(layout: Layout, state: Mapping[str, Tensor]) -> int:
    renamed = {layout.rename(name): tensor.numel() for name, tensor in state.items()}
    buffers = (".running_mean", ".running_var", ".num_batches_tracked")
    return sum(count for name, count in renamed.items() if name is not None and not name.endswith(buffers))


def _first(entries: Sequence[str]) -> str:
    shown = ", ".join(entries[:SHOWN])
    return f"{shown} and {len(entries) - SHOWN} more" if len(entries) > SHOWN else shown


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "scalar"
