"""What a training configuration says, checked: every key is known, every value is possible, before anything is read.

A configuration is an mmengine `Config` in Python whose top-level names are the attributes of `TrainingSettings`; those
under `configs/` inherit from one another. An option file of BasicSR (YAML) becomes the same settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from within.core.errors import WithinError
from within.core.train.run_settings import RunSettings


@dataclass(frozen=True)
class TrainData:
    """Where training patches come from.

    Attributes:
        gt: folder of clean images; None where there are only degraded ones; "samples" for the photographs that
            scikit-image and scikit-learn bring along.
        lq: folder of degraded images; None where they are made: with `sigma` by noise, else by bicubic downscaling.
        sigma: standard deviation of Gaussian noise on the scale 0..255, or a range.
        patch_size: height and width of a patch of the ground truth.
        stride, scales: a patch at every `stride` pixels of every image at these scales, instead of random ones.
        flip, rotate: augmentation.
        color: convert to "gray" or "rgb".
        backend: "disk" or "lmdb".
        meta_info: file that lists the images to take.
        filename_template: name of the degraded image, `{}` standing for that of the ground truth.
        enlarge: an epoch visits every image so many times.
        skip_bad: leave out files that cannot be read, with a warning.
    """

    gt: str | None = None
    lq: str | None = None
    sigma: float | tuple[float, float] | None = None
    patch_size: int = 64
    stride: int | None = None
    scales: Sequence[float] = (1.0,)
    flip: bool = True
    rotate: bool = True
    color: Literal["gray", "rgb"] | None = None
    backend: Literal["disk", "lmdb"] = "disk"
    meta_info: str | None = None
    filename_template: str = "{}"
    enlarge: int = 1
    skip_bad: bool = False


@dataclass(frozen=True)
class ValidationData:
    """What the network is measured on during training.

    Attributes:
        gt: folder of ground truth, or "samples" for the photographs held out of the training ones.
        lq: folder of degraded images, where they are not made.
        protocol: a published protocol; by default the usual one for the network.
        sigma: of noise to be added, where there is no protocol.
        filename_template: of the degraded images, where there is no protocol.
        backend: "disk" or "lmdb".
        metrics: arguments of `metrics.Metric` by name, instead of those of the protocol.
        every: iterations between two validations.
    """

    gt: str
    lq: str | None = None
    protocol: str | None = None
    sigma: float | None = None
    filename_template: str = "{}"
    backend: Literal["disk", "lmdb"] = "disk"
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    every: int = 5000


@dataclass(frozen=True)
class TeacherSettings:
    """The dense network that is imitated.

    Attributes:
        network, arguments: as in `TrainingSettings`.
        weights: its file.
        distance: `l1` or `mse`.
        weight: factor beside the loss against clean images, where there is one.
    """

    network: str
    weights: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    distance: Literal["l1", "mse"] = "l1"
    weight: float = 1.0


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """One training; see also `RunSettings`.

    Attributes:
        name: of the run.
        network: a name of `models.names()`.
        arguments: constructor arguments that replace those of the variant.
        weights: file to start from.
        weights_entry: the entry of that file to take, such as "params".
        weights_strict: whether every weight must fit; otherwise those that fit are taken.
        train, validation, teacher: see there.
        loss: a name of `losses.LOSSES` and its arguments, or None to imitate the teacher alone.
        batch_size: items a step, over all processes together.
        epochs: rounds through the training data; `schedule` is then counted in epochs too.
        iterations: optimizer steps, where there are no epochs or the training shall end earlier.
        optimizer, schedule, clip_gradients, ema, workers, precision, channels_last, threads: see
            `within.core.train.fit`.
        data_root: folder that relative paths of data and weights start from.
    """

    name: str
    network: str
    train: TrainData
    batch_size: int
    optimizer: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    weights_entry: str | None = None
    weights_strict: bool = True
    validation: ValidationData | None = None
    teacher: TeacherSettings | None = None
    loss: Mapping[str, Any] | None = None
    iterations: int | None = None
    epochs: int | None = None
    schedule: Any = None
    clip_gradients: float | None = None
    ema: float | None = None
    checkpoint_every: int = field(default=5000, kw_only=True)
    log_every: int = field(default=100, kw_only=True)
    workers: int | None = None
    precision: Literal["float16", "bfloat16"] | None = None
    channels_last: bool = True
    threads: int | None = None
    data_root: str = "."

    def __post_init__(self) -> None:
        if self.iterations is None and self.epochs is None:
            raise WithinError("Nothing says how long to train", where=self.name, todo="give iterations or epochs")
        if self.train.gt is None and self.train.lq is None:
            raise WithinError("There are no training images", where=self.name, todo="give train.gt, train.lq or both")
        if self.loss is None and self.teacher is None:
            raise WithinError("There is nothing to minimise", where=self.name, todo="give loss, teacher or both")
        if self.train.gt is None and self.loss is not None:
            raise WithinError(
                "A loss needs clean images, and train.gt is not given", where=self.name, todo="imitate a teacher alone"
            )
        if self.train.lq is not None and self.train.sigma is not None:
            raise WithinError("Noise is not added to images that are degraded already", where=f"{self.name}: train")
        if self.train.sigma is None and (self.train.stride is not None or tuple(self.train.scales) != (1.0,)):
            raise WithinError("Grids (stride) and scales are for added noise only", where=f"{self.name}: train")

    def path(self, name: str) -> Path:
        """Returns where a file or folder of the configuration lies."""
        return Path(self.data_root) / Path(name).expanduser()
