"""Option files of BasicSR as training settings: its networks, losses and schedules in the words of this project."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from within.core.errors import WithinError
from within.lowlevel.options import Component, DatasetOptions, Options

_LOSSES = {"L1Loss": "l1", "MSELoss": "mse", "CharbonnierLoss": "charbonnier", "PSNRLoss": "negative_psnr"}
# The variant that an architecture starts from (with the scale), and its arguments in our words.
_NETWORKS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "EDSR": (
        "edsr_baseline_x{}",
        {
            "num_in_ch": "channels",
            "num_feat": "width",
            "num_block": "depth",
            "res_scale": "residual_scale",
            "img_range": "image_range",
            "rgb_mean": "mean",
        },
    ),
    "MSRResNet": ("msrresnet_x{}", {"num_in_ch": "channels", "num_feat": "width", "num_block": "depth"}),
    "RCAN": (
        "rcan_x{}",
        {
            "num_in_ch": "channels",
            "num_feat": "width",
            "num_group": "groups",
            "num_block": "depth",
            "squeeze_factor": "reduction",
            "img_range": "image_range",
            "rgb_mean": "mean",
        },
    ),
    "RRDBNet": (
        "rrdbnet_x{}",
        {"num_in_ch": "channels", "num_feat": "width", "num_block": "depth", "num_grow_ch": "growth"},
    ),
    "NAFNet": (
        "nafnet_sidd_w32",
        {
            "img_channel": "channels",
            "width": "width",
            "enc_blk_nums": "encoder",
            "middle_blk_num": "middle",
            "dec_blk_nums": "decoder",
        },
    ),
}
# Arguments that must agree with what the network is here, or say nothing.
_IMPLIED = ("upscale", "scale", "num_out_ch")
# Code bases whose trainer clips gradients to this norm unless the file says otherwise.
_CLIPPED = {"ImageRestorationModel": 0.01, "ImageCleanModel": 0.01}


def settings_from_options(options: Options, processes: int = 1) -> dict[str, Any]:
    """Returns the configuration that an option file stands for, see `training_settings`.

    Arguments:
        options: a file that trains.
        processes: number of processes; BasicSR counts the batch for each.

    Raises:
        WithinError: when the file does not train, or names an architecture, loss or schedule that has no equal here.
    """
    train, data = options.train, options.datasets.get("train")
    if train is None or data is None:
        raise WithinError("The option file has no `train` section", where=options.name, todo="use it with eval")
    if train.pixel_opt is None:
        raise WithinError("The option file has no `train.pixel_opt`", where=options.name)
    network, arguments = _network(options.network_g, options.scale)
    config: dict[str, Any] = {
        "name": options.name,
        "network": network,
        "arguments": arguments,
        "weights": options.path.pretrain_network_g,
        "weights_entry": options.path.param_key_g if options.path.pretrain_network_g else None,
        "weights_strict": options.path.strict_load_g,
        "train": _train_data(data),
        "loss": _loss(train.pixel_opt),
        "optimizer": {"type": train.optim_g.type, **train.optim_g.arguments},
        "schedule": [*_warm_up(train.warmup_iter), *_schedule(train.scheduler)] or None,
        "iterations": train.total_iter,
        "batch_size": data.batch_size_per_gpu * processes,
        "workers": data.num_worker_per_gpu,
        "clip_gradients": _CLIPPED.get(options.model_type),
        "ema": train.ema_decay or None,
        "seed": options.manual_seed or 0,
        "log_every": options.print_freq,
    }
    if options.save_checkpoint_freq is not None:
        config["checkpoint_every"] = options.save_checkpoint_freq
    measured = next((entry for name, entry in options.datasets.items() if name.startswith("val")), None)
    if measured is not None and options.val.val_freq is not None:
        config["validation"] = _validation_data(measured, options)
    return config


def _network(component: Component, scale: int) -> tuple[str, dict[str, Any]]:
    if component.type not in _NETWORKS:
        raise WithinError(
            f"The architecture {component.type!r} has no equal here",
            where=component.where,
            todo=f"known are {', '.join(_NETWORKS)}",
        )
    name, words = _NETWORKS[component.type]
    arguments = {}
    for key, value in component.arguments.items():
        if key in words:
            arguments[words[key]] = value
        elif key not in _IMPLIED and not (key == "res_scale" and value == 1):
            raise WithinError(f"{component.type} has no argument {key!r} here", where=component.where)
    return name.format(scale), arguments


def _train_data(data: DatasetOptions) -> dict[str, Any]:
    return {
        "gt": data.dataroot_gt,
        "lq": data.dataroot_lq,
        "sigma": data.sigma,
        "patch_size": data.gt_size,
        "flip": data.use_flip,
        "rotate": data.use_rot,
        "color": data.color,
        "backend": data.io_backend,
        "meta_info": data.meta_info_file,
        "filename_template": data.filename_tmpl,
        "enlarge": data.dataset_enlarge_ratio,
    }


def _validation_data(data: DatasetOptions, options: Options) -> dict[str, Any]:
    return {
        "gt": data.dataroot_gt,
        "lq": data.dataroot_lq,
        "sigma": data.sigma,
        "filename_template": data.filename_tmpl,
        "backend": data.io_backend,
        "metrics": {name: dataclasses.asdict(metric) for name, metric in options.val.metrics.items()},
        "every": options.val.val_freq,
    }


def _loss(component: Component) -> dict[str, Any]:
    arguments = dict(component.arguments)
    loss: dict[str, Any] = {"type": _LOSSES[component.type], "weight": arguments.pop("loss_weight", 1.0)}
    if "eps" in arguments:
        loss["epsilon"] = arguments.pop("eps") ** 0.5  # BasicSR adds eps to the square, not its square
    if arguments.pop("reduction", "mean") != "mean" or arguments.pop("toY", False):
        raise WithinError(f"{component.type} is supported as a mean over RGB only", where=component.where)
    return loss


def _schedule(component: Component | None) -> list[dict[str, Any]]:
    if component is None:
        return []
    given = dict(component.arguments)
    if component.type == "TrueCosineAnnealingLR":
        return [{"type": "CosineAnnealingLR", **given}]
    if component.type == "CosineAnnealingRestartLR":
        given.setdefault("restart_weights", [1.0] * len(given["periods"]))
        given.setdefault("eta_min", 0.0)
        return [{"type": "CosineRestartLR", **given}]
    if any(given.pop("restarts", ())):
        raise WithinError(f"{component.type} with restarts has no equal here", where=component.where)
    given.pop("restart_weights", None)
    return [{"type": "MultiStepLR", **given}]


def _warm_up(iterations: int) -> list[dict[str, Any]]:
    if iterations < 1:
        return []
    return [{"type": "LinearLR", "start_factor": 1 / iterations, "begin": 0, "end": iterations}]
