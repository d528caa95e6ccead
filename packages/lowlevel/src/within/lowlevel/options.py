"""Option files of BasicSR (YAML) and of the code bases built on it, as frozen dataclasses.

Every key is either used, ignored for a stated reason, unsupported, or unknown; the last two are errors that name the
key and its line, because a file that is only half understood trains something else than it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset

from within.core.errors import WithinError
from within.lowlevel.data.degradations import GaussianNoise
from within.lowlevel.data.folders import DegradedImages, open_pair, open_source
from within.lowlevel.data.images import Color
from within.lowlevel.data.patches import Patches
from within.lowlevel.metrics import Metric
from within.lowlevel.option_reader import Component, OptionKeys, read_keys

TRAINABLE = ("SRModel", "ImageRestorationModel", "ImageCleanModel")
Phase = Literal["train", "val", "test"]
_PHASES: Mapping[str, Phase] = {"train": "train", "val": "val", "test": "test"}
_METRICS: Mapping[str, Literal["psnr", "ssim"]] = {"calculate_psnr": "psnr", "calculate_ssim": "ssim"}


@dataclass(frozen=True)
class DatasetOptions:
    """One entry of `datasets`; the attributes carry the names of the file."""

    phase: Phase
    type: str
    where: str
    name: str | None = None
    dataroot_gt: str | None = None
    dataroot_lq: str | None = None
    meta_info_file: str | None = None
    io_backend: Literal["disk", "lmdb"] = "disk"
    filename_tmpl: str = "{}"
    gt_size: int | None = None
    use_flip: bool = False
    use_rot: bool = False
    color: Color | None = None
    sigma: float | tuple[float, float] | None = None
    batch_size_per_gpu: int = 1
    num_worker_per_gpu: int = 0
    dataset_enlarge_ratio: int = 1


@dataclass(frozen=True)
class PathOptions:
    """`path`: weights to start from."""

    pretrain_network_g: str | None = None
    strict_load_g: bool = True
    param_key_g: str = "params"
    resume_state: str | None = None


@dataclass(frozen=True)
class TrainOptions:
    """`train`; no warm-up is 0 iterations of it, no moving average of the weights is a decay of 0."""

    total_iter: int
    optim_g: Component
    scheduler: Component | None = None
    pixel_opt: Component | None = None
    ema_decay: float = 0.0
    warmup_iter: int = 0


@dataclass(frozen=True)
class ValidationOptions:
    """`val`: how often, and which metrics, by the names of the file."""

    val_freq: int | None = None
    save_img: bool = False
    metrics: Mapping[str, Metric] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """An option file.

    Attributes:
        ignored: keys without effect here, as (key, line, reason).
        The others carry the names of the file.
    """

    name: str
    model_type: str
    scale: int
    network_g: Component
    datasets: Mapping[str, DatasetOptions]
    path: PathOptions = PathOptions()
    train: TrainOptions | None = None
    val: ValidationOptions = ValidationOptions()
    manual_seed: int | None = None
    print_freq: int = 100
    save_checkpoint_freq: int | None = None
    ignored: tuple[tuple[str, int, str], ...] = ()


def read_options(path: str | Path) -> Options:
    """Reads an option file.

    Raises:
        WithinError: when the file is missing or no YAML, when keys are unknown, unsupported, missing or twice there, or
            a value is not what the key needs; all of them at once, with their lines.
    """
    keys = read_keys(path)
    for key in ("name", "scale", "network_g"):
        keys.require(key)
    datasets = {name: _dataset(keys, name) for name in keys.children("datasets")}
    metrics = {name: metric for name in keys.children("val.metrics") if (metric := _metric(keys, name)) is not None}
    train = _train(keys)
    model_type = keys.values.get("model_type", TRAINABLE[0])
    if train is not None and model_type not in TRAINABLE:
        known = ", ".join(TRAINABLE)
        keys.fault(keys.lines["model_type"], f"`model_type` {model_type} cannot be trained here, only {known}")
    keys.raise_faults()
    return Options(
        name=keys.values["name"],
        model_type=model_type,
        scale=keys.values["scale"],
        network_g=keys.values["network_g"],
        datasets=datasets,
        path=PathOptions(**keys.under("path")),
        train=train,
        val=ValidationOptions(keys.values.get("val.val_freq"), keys.values.get("val.save_img", False), metrics),
        manual_seed=keys.values.get("manual_seed"),
        print_freq=keys.values.get("logger.print_freq", 100),
        save_checkpoint_freq=keys.values.get("logger.save_checkpoint_freq"),
        ignored=tuple(keys.ignored),
    )


def open_dataset(options: DatasetOptions, scale: int, *, seed: int = 0, skip_bad: bool = False) -> Dataset[Any]:
    """Opens the data set of an entry; random patches for training, whole images otherwise.

    Arguments:
        options: the entry.
        scale: of the option file.
        seed: of patches and noise.
        skip_bad: leave out files that cannot be read, with a warning.

    Raises:
        WithinError: when the entry has no ground truth, and as `open_pair` and `open_source` do.
    """
    patches = None
    if options.phase == "train" and options.gt_size is not None:
        patches = Patches(options.gt_size, flip=options.use_flip, rotate=options.use_rot)
    if options.dataroot_gt is None:
        raise WithinError(
            "The data set has no ground truth (dataroot_gt), so nothing can be trained or measured on it",
            where=options.where,
        )
    enlarge = options.dataset_enlarge_ratio if options.phase == "train" else 1
    if options.sigma is not None:
        source = open_source(
            options.dataroot_gt, meta_info=options.meta_info_file, backend=options.io_backend, skip_bad=skip_bad
        )
        noise = GaussianNoise(options.sigma, "random" if options.phase == "train" else "kair")
        return DegradedImages(source, noise, patches=patches, color=options.color, enlarge=enlarge, seed=seed)
    assert options.dataroot_lq is not None
    return open_pair(
        options.dataroot_gt,
        options.dataroot_lq,
        meta_info=options.meta_info_file,
        backend=options.io_backend,
        filename_template=options.filename_tmpl,
        skip_bad=skip_bad,
        scale=scale,
        patches=patches,
        color=options.color,
        enlarge=enlarge,
    )


def _dataset(keys: OptionKeys, name: str) -> DatasetOptions:
    path, line = f"datasets.{name}", keys.lines[f"datasets.{name}"]
    got = keys.under(path)
    phase = _PHASES.get(name.split("_")[0])
    if phase is None:
        phase = "test"
        keys.fault(line, f"`{path}` must be named train, val or test, with or without _ and a word")
    training = phase == "train"
    kind = got.setdefault("type", "")
    noise = {key: got.pop(key, None) for key in ("sigma_range", "sigma_test", "sigma_type")}
    needs = {
        "PairedImageDataset": ("dataroot_gt", "dataroot_lq"),
        "SingleImageDataset": ("dataroot_lq",),
        "Dataset_GaussianDenoising": ("dataroot_gt", "sigma_range" if training else "sigma_test"),
    }
    for key in ("type", *needs.get(kind, ()), *(("gt_size",) if training else ())):
        keys.require(f"{path}.{key}")
    if kind == "Dataset_GaussianDenoising":
        got.pop("dataroot_lq", None)  # such files say `none`: the noise is made
    scale = keys.values.get("scale", 1)
    if training and got.get("gt_size", scale) % scale:
        keys.fault(line, f"`{path}.gt_size` {got['gt_size']} is not a multiple of the scale {scale}")
    all_eight = got.pop("geometric_augs", False)
    flips = [got.pop(key, False) for key in ("use_hflip", "use_flip")]
    channels = got.pop("in_ch", None)
    colors: Mapping[int | None, Color] = {1: "gray", 3: "rgb"}
    return DatasetOptions(
        phase=phase,
        where=f"{keys.file}, line {line}",
        io_backend=got.pop("io_backend.type", "disk"),
        use_flip=any(flips) or all_eight,
        use_rot=got.pop("use_rot", False) or all_eight,
        sigma=noise["sigma_range" if training else "sigma_test"],
        color=got.pop("color", colors.get(channels)),
        **got,
    )


def _metric(keys: OptionKeys, name: str) -> Metric | None:
    path = f"val.metrics.{name}"
    keys.require(f"{path}.type")
    got = keys.under(path)
    kind = got.get("type", "")
    if kind not in _METRICS:
        keys.ignored.append((path, keys.lines[path], f"there is no metric {kind} here; it is not computed"))
        return None
    return Metric(
        _METRICS[kind],
        "uint8" if keys.values.get("val.use_image", True) else "float",
        "y" if got.get("test_y_channel", False) else "rgb",
        got.get("crop_border", 0),
    )


def _train(keys: OptionKeys) -> TrainOptions | None:
    if not keys.children("train"):
        return None
    for key in ("train.total_iter", "train.optim_g"):
        keys.require(key)
    if not any(name.split("_")[0] == "train" for name in keys.children("datasets")):
        keys.fault(keys.lines["train"], "`datasets.train` is missing")
    got = {"total_iter": 0, "optim_g": Component("", {}, ""), **keys.under("train")}
    got["warmup_iter"] = max(0, got.get("warmup_iter", 0))  # -1 means none
    return TrainOptions(**got)
