"""How weights are updated, in mmengine's configuration language: optimizer, clipping, mixed precision, schedule."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS

from within.core.errors import WithinError

Schedule = str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


def optimizer_wrapper(
    optimizer: Mapping[str, Any],
    *,
    clip_gradients: float | None,
    parameter_options: Mapping[str, Any] | None,
    precision: str | None,
    device: torch.device,
) -> dict[str, Any]:
    """Returns mmengine's `optim_wrapper` configuration.

    Workaround for mmengine 0.10.7: its AmpOptimWrapper asserts that there is a GPU, so mixed precision on CPU is
    refused here in words.

    Raises:
        WithinError: when the optimizer is unknown, or mixed precision is asked for on CPU.
    """
    if OPTIMIZERS.get(optimizer.get("type", "")) is None:
        raise WithinError(
            f"There is no optimizer {optimizer.get('type')!r}", todo="name a class of torch.optim, such as Adam"
        )
    config: dict[str, Any] = {"type": "OptimWrapper", "optimizer": copy.deepcopy(dict(optimizer))}
    if precision is not None:
        if device.type != "cuda":
            raise WithinError(
                f"Mixed precision ({precision}) needs a CUDA device; this run is on {device.type}",
                todo="leave precision out on CPU",
            )
        config.update(type="AmpOptimWrapper", dtype=precision)
    if clip_gradients is not None:
        config["clip_grad"] = {"max_norm": clip_gradients}
    if parameter_options is not None:
        config["paramwise_cfg"] = copy.deepcopy(dict(parameter_options))
    return config


def schedule_configs(schedule: Schedule, iterations: int) -> list[dict[str, Any]]:
    """Returns mmengine's parameter schedulers, all counted in iterations.

    Arguments:
        schedule: None for a constant rate, `"cosine"` for a half cosine down to zero over the run, or one or several of
            mmengine's schedulers, such as `dict(type="MultiStepLR", milestones=[200_000], gamma=0.5)`.
        iterations: length of the run, the default period of cosine schedules.

    Raises:
        WithinError: when a scheduler is unknown.
    """
    if schedule is None:
        return []
    if isinstance(schedule, str):
        if schedule != "cosine":
            raise WithinError(f"Unknown schedule {schedule!r}", todo='pass "cosine" or mmengine schedulers')
        schedule = {"type": "CosineAnnealingLR"}
    parts = [schedule] if isinstance(schedule, Mapping) else list(schedule)
    configs = []
    for part in parts:
        config = {"by_epoch": False, **part}
        if PARAM_SCHEDULERS.get(config.get("type", "")) is None:
            raise WithinError(f"There is no schedule {config.get('type')!r}", todo="name one of mmengine's schedulers")
        if config["type"] == "CosineAnnealingLR":
            config.setdefault("T_max", config.get("end", iterations) - config.get("begin", 0))
        configs.append(config)
    return configs
