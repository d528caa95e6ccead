"""Batch normalisation in a state_dict: another eps, and merging into the convolution before it.

w' = w * gamma / sqrt(var + eps)        b' = beta + (b - mean) * gamma / sqrt(var + eps)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from within.core.errors import WithinError

EPS = 1e-5
_STATISTICS = re.compile(r"^(?P<container>.*?)(?P<index>\d+)\.running_mean$")


def has_batch_norm(names: Mapping[str, Tensor]) -> bool:
    """Whether any name is that of a running statistic."""
    return any(name.endswith(".running_mean") for name in names)


def with_torch_eps(state: Mapping[str, Tensor], eps: float) -> dict[str, Tensor]:
    """Returns the same function for layers with torch's eps, from statistics meant for `eps`: var + eps stays."""
    shift = eps - EPS
    if shift == 0:
        return dict(state)
    return {name: tensor + shift if name.endswith(".running_var") else tensor for name, tensor in state.items()}


def merge_batch_norm(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Returns the state of the network without its normalisations, and how many there were.

    Each must directly follow a convolution in a flat Sequential; the modules behind it move up by one. Convolutions
    that had no bias get one, of zeros where no normalisation follows.

    Raises:
        WithinError: when a normalisation follows no convolution, or is not affine.
    """
    merged = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    removed: dict[str, list[int]] = {}
    for name in state:
        found = _STATISTICS.match(name)
        if found is None:
            continue
        container, index = found["container"], int(found["index"])
        convolution, norm = f"{container}{index - 1}", f"{container}{index}"
        parts = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        before = merged.get(f"{convolution}.weight")
        if before is None or before.ndim != 4 or any(part not in merged for part in parts):
            raise WithinError("This normalisation follows no convolution, so it cannot be merged", where=norm)
        gamma, beta, mean, variance = (merged.pop(part).double() for part in parts)
        factor = gamma / torch.sqrt(variance + EPS)
        bias = merged.get(f"{convolution}.bias", torch.zeros(len(before))).double()
        merged[f"{convolution}.weight"] = (before.double() * factor[:, None, None, None]).to(before.dtype)
        merged[f"{convolution}.bias"] = (beta + (bias - mean) * factor).to(before.dtype)
        removed.setdefault(container, []).append(index)
    for container, indices in removed.items():
        merged = _move_up(merged, container, indices)
    for name in [name for name in merged if name.endswith(".weight")]:
        merged.setdefault(name.removesuffix("weight") + "bias", torch.zeros(len(merged[name])))
    return merged, sum(len(indices) for indices in removed.values())


def _move_up(state: dict[str, Tensor], container: str, removed: list[int]) -> dict[str, Tensor]:
    def moved(name: str) -> str:
        inside = re.match(rf"^{re.escape(container)}(\d+)(\..*)$", name)
        if inside is None:
            return name
        index = int(inside[1])
        return f"{container}{index - sum(before < index for before in removed)}{inside[2]}"

    return {moved(name): tensor for name, tensor in state.items()}
