"""The keys of BasicSR's option files: what we read, what has no effect here, and what we cannot do.

A path is a key with those above it; `*` stands for a name that the user chose (of a data set, of a metric).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Convert = Callable[[Any], Any]


def text(value: Any) -> str:
    """Returns text; numbers are what they look like."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("text is expected")
    return str(value)


def path(value: Any) -> str:
    """Returns a path with `~` expanded."""
    return str(Path(text(value)).expanduser())


def boolean(value: Any) -> bool:
    """Returns true or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def number(value: Any) -> float:
    """Returns a number; YAML reads 1e-4 (without a point) as text, which is meant as a number."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("a number is expected")
    try:
        return float(value)
    except ValueError:
        raise ValueError("a number is expected") from None


def whole(minimum: int) -> Convert:
    """Returns a converter to whole numbers of at least `minimum`; 5e3 is one."""

    def convert(value: Any) -> int:
        expected = ValueError(f"a whole number of at least {minimum} is expected")
        try:
            result = number(value)
        except ValueError:
            raise expected from None
        if not result.is_integer() or result < minimum:
            raise expected
        return int(result)

    return convert


def one_of(*choices: str) -> Convert:
    """Returns a converter that accepts the choices only."""

    def convert(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is expected")
        return str(value)

    return convert


def fraction(value: Any) -> float:
    """Returns a number in [0, 1)."""
    result = number(value)
    if not 0 <= result < 1:
        raise ValueError("a number from 0 to below 1 is expected")
    return result


def sigma(value: Any) -> float | tuple[float, float]:
    """Returns a standard deviation, or a range of them."""
    if isinstance(value, list) and len(value) == 2:
        low, high = number(value[0]), number(value[1])
    else:
        low = high = number(value)
    if not 0 <= low <= high:
        raise ValueError("a standard deviation or [low, high] is expected")
    return low if low == high else (low, high)


def numbers(value: Any) -> tuple[float, ...]:
    """Returns a list of numbers."""
    if not isinstance(value, list):
        raise ValueError("a list of numbers is expected")
    return tuple(number(item) for item in value)


def whole_numbers(value: Any) -> tuple[int, ...]:
    """Returns a list of whole numbers."""
    if not isinstance(value, list):
        raise ValueError("a list of whole numbers is expected")
    return tuple(whole(0)(item) for item in value)


_ADAM: Mapping[str, Convert] = {"lr": number, "weight_decay": number, "betas": numbers, "eps": number}
_LOSS: Mapping[str, Convert] = {"loss_weight": number, "reduction": one_of("mean", "sum")}

SUPPORTED: Mapping[str, Convert] = {
    "name": text,
    "model_type": text,
    "scale": whole(1),
    "manual_seed": whole(0),
    "datasets.*.name": text,
    "datasets.*.type": one_of("PairedImageDataset", "SingleImageDataset", "Dataset_GaussianDenoising"),
    "datasets.*.dataroot_gt": path,
    "datasets.*.dataroot_lq": path,
    "datasets.*.meta_info_file": path,
    "datasets.*.filename_tmpl": text,
    "datasets.*.io_backend.type": one_of("disk", "lmdb"),
    "datasets.*.gt_size": whole(1),
    "datasets.*.use_hflip": boolean,
    "datasets.*.use_flip": boolean,
    "datasets.*.use_rot": boolean,
    "datasets.*.geometric_augs": boolean,
    "datasets.*.color": one_of("gray", "rgb"),
    "datasets.*.in_ch": whole(1),
    "datasets.*.sigma_type": one_of("constant", "random"),
    "datasets.*.sigma_range": sigma,
    "datasets.*.sigma_test": sigma,
    "datasets.*.num_worker_per_gpu": whole(0),
    "datasets.*.batch_size_per_gpu": whole(1),
    "datasets.*.dataset_enlarge_ratio": whole(1),
    "path.pretrain_network_g": path,
    "path.strict_load_g": boolean,
    "path.param_key_g": text,
    "path.resume_state": path,
    "train.ema_decay": fraction,
    "train.total_iter": whole(1),
    "train.warmup_iter": whole(-1),
    "val.val_freq": whole(1),
    "val.save_img": boolean,
    "val.use_image": boolean,
    "val.metrics.*.type": text,
    "val.metrics.*.crop_border": whole(0),
    "val.metrics.*.test_y_channel": boolean,
    "logger.print_freq": whole(1),
    "logger.save_checkpoint_freq": whole(1),
}

# Maps with a `type`, and the arguments of each type; None: any type with any arguments.
COMPONENTS: Mapping[str, Mapping[str, Mapping[str, Convert]] | None] = {
    "network_g": None,
    "train.optim_g": {
        "Adam": {**_ADAM, "amsgrad": boolean},
        "AdamW": {**_ADAM, "amsgrad": boolean},
        "SGD": {"lr": number, "weight_decay": number, "momentum": number, "nesterov": boolean},
    },
    "train.scheduler": {
        "MultiStepLR": {"milestones": whole_numbers, "gamma": number},
        "MultiStepRestartLR": {
            "milestones": whole_numbers,
            "gamma": number,
            "restarts": whole_numbers,
            "restart_weights": numbers,
        },
        "CosineAnnealingRestartLR": {"periods": whole_numbers, "restart_weights": numbers, "eta_min": number},
        "TrueCosineAnnealingLR": {"T_max": whole(1), "eta_min": number},
    },
    "train.pixel_opt": {
        "L1Loss": _LOSS,
        "MSELoss": _LOSS,
        "CharbonnierLoss": {**_LOSS, "eps": number},
        "PSNRLoss": {**_LOSS, "toY": boolean},
    },
}

IGNORED: Mapping[str, str] = {
    "suffix": "belongs under `val`",
    "crop_border": "belongs to each metric under `val`",
    "save_img": "belongs under `val`",
    "num_gpu": "the launcher decides how many devices there are",
    "dist_params": "the launcher sets the distribution up",
    "datasets.*.prefetch_mode": "workers prefetch already",
    "datasets.*.pin_memory": "decided by the device",
    "datasets.*.use_shuffle": "training data are always shuffled, test data never",
    "datasets.*.cache_data": "use the file cache of the system",
    "path.root": "results go to the run directory",
    "path.experiments_root": "results go to the run directory",
    "path.results_root": "results go to the run directory",
    "val.suffix": "restored images keep the name of their input",
    "val.pbar": "a bar is shown on a terminal",
    "val.rgb2bgr": "images are RGB throughout",
    "val.max_minibatch": "images are evaluated one by one",
    "val.metrics.*.better": "known for each metric",
    "logger.use_tb_logger": "TensorBoard is a hook of the runner",
    "logger.wandb": "not used",
}

UNSUPPORTED: Mapping[str, str] = {
    "network_d": "adversarial training",
    "train.optim_d": "adversarial training",
    "train.gan_opt": "adversarial training",
    "train.net_d_iters": "adversarial training",
    "train.net_d_init_iters": "adversarial training",
    "train.net_d_reg_every": "adversarial training",
    "train.net_g_reg_every": "adversarial training",
    "train.perceptual_opt": "perceptual losses",
    "train.ldl_opt": "perceptual losses",
    "train.feature_matching_opt": "perceptual losses",
    "train.mixing_augs": "mixing of images",
    "train.mixup": "mixing of images",
    "train.use_grad_clip": "clipping of gradients",
    "datasets.*.gt_sizes": "patch sizes that change during training",
    "datasets.*.iters": "patch sizes that change during training",
    "datasets.*.mini_batch_sizes": "patch sizes that change during training",
    "datasets.*.mean": "normalised inputs; networks here take images in [0, 1]",
    "datasets.*.std": "normalised inputs; networks here take images in [0, 1]",
    "datasets.*.num_frame": "video",
    "val.grids": "use `within lowlevel plan` for tiles",
    "val.crop_size_h": "use `within lowlevel plan` for tiles",
    "val.crop_size_w": "use `within lowlevel plan` for tiles",
    "val.window_size": "the network says to which multiple it needs padding",
}
