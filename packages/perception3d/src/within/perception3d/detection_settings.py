"""What a training configuration of a detector says, checked before anything is read.

A configuration is an mmengine `Config` in Python whose top-level names are the attributes of `DetectionSettings`; those
under `configs/` inherit from one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from within.core.errors import WithinError
from within.core.train.run_settings import RunSettings
from within.perception3d.ada3d.importance_loss import ImportanceTarget
from within.perception3d.anchor_loss import AnchorLossWeights
from within.perception3d.center_decoding import Decoding
from within.perception3d.center_loss import CenterLossWeights
from within.perception3d.scene_augmentation import Augmentation

Stage = Literal["detector", "importance", "tuning"]


@dataclass(frozen=True)
class DetectionSchedule:
    """How a detector is trained: Adam with weight decay apart from the gradient, and one cycle of rate and momentum.

    Attributes:
        epochs: rounds through the training data; or
        iterations: optimizer steps.
        batch_size: scenes a step, over all processes together.
        rate: largest learning rate.
        weight_decay: of all weights.
        rise: share of the run in which the rate rises.
        division: the first rate is the largest one divided by this; 1 starts at the top.
        momenta: Adam's first beta at the lowest and the highest rate.
        clip_gradients: largest norm of all gradients together.
        most_voxels: kept of a training scene; the grid's own number by default.
        ema: decay of the exponential moving average of the weights, which is what comes out of training.
        keep_scenes: remember scenes once they were read.
        precision, threads, workers: see `within.core.train.fit`.
    """

    epochs: int | None = None
    iterations: int | None = None
    batch_size: int = 4
    rate: float = 3e-3
    weight_decay: float = 0.01
    rise: float = 0.4
    division: float = 10.0
    momenta: Sequence[float] = (0.95, 0.85)
    clip_gradients: float | None = 10.0
    most_voxels: int | None = 16_000
    ema: float | None = None
    keep_scenes: bool = False
    precision: Literal["float16", "bfloat16"] | None = None
    threads: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.iterations is None):
            raise WithinError("Nothing or two things say how long to train", todo="give epochs or iterations")

    def rounds(self, items: int) -> int:
        """Returns the number of steps in an epoch, the last incomplete batch left out."""
        return max(items // self.batch_size, 1)

    def steps(self, items: int) -> int:
        """Returns the number of optimizer steps with so many training scenes."""
        return self.iterations or (self.epochs or 0) * self.rounds(items)

    def one_cycle(self, steps: int) -> list[dict[str, Any]]:
        """Returns the course of rate and momentum as mmengine's schedulers.

        Smith and Topin: Super-Convergence, 2018.
        """
        high, low = self.momenta
        if self.division <= 1:
            return [{"type": "CosineAnnealingLR", "eta_min_ratio": 1e-4}]
        if steps < 2:
            return []
        top = min(max(round(self.rise * steps), 1), steps - 1)
        rise = {"begin": 0, "end": top, "T_max": top}
        fall = {"begin": top, "end": steps, "T_max": max(steps - top, 1)}
        return [
            {"type": "CosineAnnealingLR", "eta_min": self.rate, **rise},
            {"type": "CosineAnnealingLR", "eta_min": self.rate / self.division * 1e-4, **fall},
            {"type": "CosineAnnealingMomentum", "eta_min": low, **rise},
            {"type": "CosineAnnealingMomentum", "eta_min": high, **fall},
        ]

    @property
    def optimizer(self) -> dict[str, Any]:
        """What `fit` takes."""
        first = self.rate if self.division <= 1 else self.rate / self.division
        beta = self.momenta[0] if self.division > 1 else 0.9
        return {"type": "AdamW", "lr": first, "betas": (beta, 0.99), "weight_decay": self.weight_decay}


@dataclass(frozen=True)
class DetectionSettings(RunSettings):
    """One training; see also `RunSettings`.

    Attributes:
        name: of the run.
        network: a name of `models.variants.names()`.
        data: folder of the data set.
        schedule: how it is trained.
        arguments: constructor arguments that replace those of the variant; with `drop_rates` it is an `Ada3D`.
        stage: "detector" trains a detector; "importance" the importance predictor alone, on a detector that stays;
            "tuning" the detector while places are dropped, the predictor stays. A second "importance" with the drop
            rates brings the predictor up to date with the tuned detector.
        gradual: in "tuning", let the shares that stay fall from 1 to the rates over the run.
        weights: file or run directory to start from.
        loss: weights of a head of centres.
        anchor_loss: weights of a head of anchors.
        augmentation: how scenes are changed; None leaves them.
        importance: what the predictor is trained to take for important.
        decoding: how boxes are read in the validation.
        split, validation_split: parts of the data set.
        validate_every: epochs between two validations; the weights of the best one are kept.
    """

    name: str
    network: str
    data: str
    schedule: DetectionSchedule
    arguments: Mapping[str, Any] = field(default_factory=dict)
    stage: Stage = "detector"
    gradual: bool = False
    weights: str | None = None
    loss: CenterLossWeights = field(default_factory=CenterLossWeights)
    anchor_loss: AnchorLossWeights = field(default_factory=AnchorLossWeights)
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    importance: ImportanceTarget = field(default_factory=ImportanceTarget)
    decoding: Decoding = field(default_factory=Decoding)
    split: str | None = "train"
    validation_split: str | None = "val"
    validate_every: int = 10

    def __post_init__(self) -> None:
        if self.stage not in ("detector", "importance", "tuning"):
            raise WithinError(f"There is no stage {self.stage!r}", todo="choose detector, importance or tuning")
        if self.stage != "detector" and not ({"drop_rates", "places"} & set(self.arguments)):
            raise WithinError(
                f"The stage {self.stage!r} needs a network that predicts importance",
                where=self.name,
                todo="give drop_rates or places among its arguments",
            )
        if self.stage != "detector" and self.weights is None:
            raise WithinError(
                f"The stage {self.stage!r} starts from a trained detector", where=self.name, todo="give its weights"
            )
