"""How weights are updated, in mmengine's configuration language: optimizer, clipping, mixed precision, schedule."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS
from torch import nn

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

    Arguments:
        optimizer: class of torch.optim and its arguments.
        clip_gradients: largest norm of all gradients together, or None.
        parameter_options: mmengine's `paramwise_cfg`, or None.
        precision: None, `float16` (CUDA only) or `bfloat16`.
        device: where the training runs.

    Raises:
        WithinError: when the optimizer or the precision is unknown, or the device cannot train in that precision.
    """
    if OPTIMIZERS.get(optimizer.get("type", "")) is None:
        raise WithinError(
            f"There is no optimizer {optimizer.get('type')!r}", todo="name a class of torch.optim, such as Adam"
        )
    config: dict[str, Any] = {"type": "OptimWrapper", "optimizer": copy.deepcopy(dict(optimizer))}
    if precision not in (None, "float16", "bfloat16"):
        raise WithinError(f"Unknown precision {precision!r}", todo="pass None, float16 or bfloat16")
    if precision is not None and device.type == "cuda":
        config.update(type="AmpOptimWrapper", dtype=precision)
    elif precision == "bfloat16":
        config["type"] = CpuAutocastWrapper
    elif precision is not None:
        raise WithinError(
            f"Training in {precision} needs a CUDA device; this run is on {device.type}",
            todo="leave precision out, or pass bfloat16",
        )
    if clip_gradients is not None:
        config["clip_grad"] = {"max_norm": clip_gradients}
    if parameter_options is not None:
        config["paramwise_cfg"] = copy.deepcopy(dict(parameter_options))
    return config


class CpuAutocastWrapper(OptimWrapper):
    """Mixed precision in bfloat16 on CPU.

    Workaround for mmengine 0.10.7, whose AmpOptimWrapper asserts that there is a GPU. bfloat16 has the range of
    float32, so gradients need no scaling.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Runs what the network computes in bfloat16."""
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield


def schedule_configs(schedule: Schedule, iterations: int) -> list[dict[str, Any]]:
    """Returns mmengine's parameter schedulers, all counted in iterations.

    Arguments:
        schedule: None for a constant rate, `"cosine"` for a half cosine down to zero over the run, `"warm_cosine"` for
            the same after a linear rise over the first tenth of it (at most 100 iterations), or one or several of
            mmengine's schedulers, such as `dict(type="MultiStepLR", milestones=[200_000], gamma=0.5)`.
        iterations: length of the run, the default period of cosine schedules.

    Raises:
        WithinError: when a scheduler is unknown.
    """
    if schedule is None:
        return []
    if isinstance(schedule, str):
        if schedule not in ("cosine", "warm_cosine"):
            raise WithinError(f"Unknown schedule {schedule!r}", todo='pass "cosine", "warm_cosine" or schedulers')
        # Adam's first steps are as long as its rate, whatever the gradient: too long for a network just compressed.
        rise = min(100, iterations // 10) if schedule == "warm_cosine" else 0
        schedule = [{"type": "CosineAnnealingLR", "begin": rise}]
        if rise > 1:
            schedule = [{"type": "LinearLR", "start_factor": 0.05, "begin": 0, "end": rise}, *schedule]
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
