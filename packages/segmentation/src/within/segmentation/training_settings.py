"""What a training configuration says, checked before anything is read.

A configuration is an mmengine `Config` in Python whose top-level names are the attributes of `TrainingSettings`; those
under `configs/` inherit from one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from within.core.errors import WithinError
from within.core.train.run_settings import RunSettings


@dataclass(frozen=True)
class Schedule:
    """How one network is trained; the arms of a study share one.

    Attributes:
        epochs: rounds through the training data; or
        iterations: optimizer steps.
        batch_size: items a step, over all processes together.
        crop: side of a square crop, or height and width.
        scale: range of the box that is cut out and resized to the crop, as a factor of the crop's size.
        brightness, colour: largest relative change of brightness, and of contrast and saturation.
        optimizer: class of torch.optim and its arguments.
        encoder_factor: of learning rate and weight decay in the encoder.
        least_rate: learning rate at the end of the cosine.
        loss: "cross_entropy" or "boundary_aware_focal".
        balance: c of the weight 1 / ln(c + share) of each class: 1.02 for much, 1.1 for less; None for equal weights.
        loss_stride: compare scores with every so many-th row and column of the labels only, which is faster.
        ema: decay of the exponential moving average of the weights, which is what comes out of training.
        clip_gradients: largest norm of all gradients together.
        precision, channels_last, threads, workers: see `within.core.train.fit`.
    """

    epochs: int | None = None
    iterations: int | None = None
    batch_size: int = 14
    crop: int | Sequence[int] = 768
    scale: Sequence[float] = (0.5, 2.0)
    brightness: float = 0.0
    colour: float = 0.0
    optimizer: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "Adam", "lr": 4e-4, "betas": (0.9, 0.99), "weight_decay": 1e-4}
    )
    encoder_factor: float = 0.25
    least_rate: float = 1e-6
    loss: Literal["cross_entropy", "boundary_aware_focal"] = "cross_entropy"
    balance: float | None = None
    loss_stride: int = 1
    ema: float | None = None
    clip_gradients: float | None = None
    precision: Literal["float16", "bfloat16"] | None = None
    channels_last: bool = True
    threads: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.iterations is None):
            raise WithinError("Nothing or two things say how long to train", todo="give epochs or iterations")
        if self.loss not in ("cross_entropy", "boundary_aware_focal"):
            raise WithinError(f"There is no loss {self.loss!r}", todo="choose cross_entropy or boundary_aware_focal")

    def steps(self, items: int) -> int:
        """Returns the number of optimizer steps with so many training images."""
        return self.iterations or (self.epochs or 0) * self.rounds(items)

    def rounds(self, items: int) -> int:
        """Returns the number of steps in an epoch, the last incomplete batch left out."""
        return max(items // self.batch_size, 1)

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width of a crop."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else (int(self.crop[0]), int(self.crop[1]))


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """One training; see also `RunSettings`.

    Attributes:
        name: of the run.
        network: a name of `models.names()`.
        data: folder of the data set.
        schedule: how it is trained.
        arguments: constructor arguments that replace those of the variant.
        weights: file or run directory to start from, the whole network.
        pretrained: weights of the encoder alone: of ImageNet, as torchvision or timm name them, or of another SwiftNet.
        transfer: file or run directory of the same network for other classes, all of which is taken but `logits`.
        transfer_classes: names of that network's outputs; classes of the same name, or a synonym, keep their scores.
        split, validation_split: parts of the data set.
        validate_every: epochs between two validations; the weights of the best one are kept.
        size: height and width at which the network is validated; that of each image by default.
    """

    name: str
    network: str
    data: str
    schedule: Schedule
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    pretrained: str | None = None
    transfer: str | None = None
    transfer_classes: Sequence[str] | None = None
    split: str = "train"
    validation_split: str | None = "val"
    validate_every: int = 4
    size: Sequence[int] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("weights", "pretrained", "transfer") if getattr(self, name) is not None]
        if len(given) > 1:
            raise WithinError(f"Both {given[0]} and {given[1]} are given", where=self.name, todo="give one of them")
