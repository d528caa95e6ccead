"""What a training configuration of a point network says, checked before anything is read.

A configuration is an mmengine `Config` in Python whose top-level names are the attributes of `PointTrainingSettings`;
those under `configs/pvcnn` inherit from one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from within.core.errors import WithinError
from within.core.train.run_settings import RunSettings


@dataclass(frozen=True)
class PointSchedule:
    """How long and how fast.

    Attributes:
        epochs: rounds through the training data; or
        iterations: optimizer steps.
        batch_size: clouds a step, over all processes together.
        optimizer: class of torch.optim and its arguments.
        decay: "cosine" to 0, or "steps": times `factor` after the epochs `milestones`.
        milestones, factor: see there.
        precision, threads, workers: see `within.core.train.fit`.
    """

    epochs: int | None = None
    iterations: int | None = None
    batch_size: int = 32
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"type": "Adam", "lr": 1e-3})
    decay: Literal["cosine", "steps"] = "cosine"
    milestones: Sequence[int] = ()
    factor: float = 0.5
    precision: Literal["float16", "bfloat16"] | None = None
    threads: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.iterations is None):
            raise WithinError("Nothing or two things say how long to train", todo="give epochs or iterations")
        if self.decay not in ("cosine", "steps"):
            raise WithinError(f"There is no decay {self.decay!r}", todo="choose cosine or steps")
        if self.batch_size < 2:
            raise WithinError(
                f"A batch of {self.batch_size} clouds cannot be normalised", todo="give a batch_size of 2 or more"
            )

    def rounds(self, items: int) -> int:
        """Returns the number of steps in an epoch, the last incomplete batch left out."""
        return max(items // self.batch_size, 1)

    def steps(self, items: int) -> int:
        """Returns the number of optimizer steps with so many clouds."""
        return self.iterations or (self.epochs or 0) * self.rounds(items)

    def scheduler(self, items: int) -> dict[str, Any]:
        """Returns mmengine's scheduler, counted in steps."""
        if self.decay == "cosine":
            return {"type": "CosineAnnealingLR", "T_max": self.steps(items), "eta_min": 0.0}
        milestones = [epoch * self.rounds(items) for epoch in self.milestones]
        return {"type": "MultiStepLR", "milestones": milestones, "gamma": self.factor}


@dataclass(frozen=True)
class PointTrainingSettings(RunSettings):
    """One training; see also `RunSettings`.

    Attributes:
        name: of the run.
        network: a name of `registry.names()`.
        data: folder of the data set: S3DIS's with Area_1 to Area_6, ShapeNet's parts, or KITTI's with `training` and
            `ImageSets`.
        schedule: how it is trained.
        arguments: constructor arguments that replace those of the variant.
        weights: file or run directory to start from.
        points: of a cloud; the variant's by default.
        validate_every: epochs between two validations; 0 for none. The weights of the best one are kept.
        validation_votes: see `evaluate_rooms`.
        holdout: area of S3DIS for validation.
        normals: of ShapeNet, as features.
        copies: frustums of each object of KITTI, with moved 2-D boxes.
        split, validation_split: lists of KITTI's frames, in `ImageSets`.
    """

    name: str
    network: str
    data: str
    schedule: PointSchedule
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    points: int | None = None
    validate_every: int = 10
    validation_votes: int = 1
    holdout: int = 5
    normals: bool = True
    copies: int = 5
    split: str = "train"
    validation_split: str = "val"

    def __post_init__(self) -> None:
        if self.validate_every < 0 or self.validation_votes < 1 or self.copies < 1:
            raise WithinError("validate_every, validation_votes or copies is too small", where=self.name)


@dataclass(frozen=True)
class PointEvaluationSettings:
    """What is evaluated.

    Attributes:
        data: folder of the data set, see `PointTrainingSettings`.
        network: a variant or a run directory; not needed where `weights` is one.
        weights, arguments: of the network, see `open_network`.
        points: of a cloud; the variant's by default.
        votes: how often each point is seen at least; by default 1 for rooms and 10 for objects.
        holdout: area of S3DIS.
        split: of ShapeNet ("test" by default), or the list of KITTI's frames ("val" by default).
        normals: of ShapeNet, as features.
        detections: file of 2-D boxes for KITTI's average precision; without it the accuracy in labelled boxes is found.
        limit: first rooms or objects only.
        device: None takes CUDA where there is one.
        save: a folder for detections.
        seed: of the points drawn.
    """

    data: str
    network: str | None = None
    weights: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    points: int | None = None
    votes: int | None = None
    holdout: int = 5
    split: str | None = None
    normals: bool = True
    detections: str | None = None
    limit: int | None = None
    device: str | None = None
    save: str | None = None
    seed: int = 0
    classes: Sequence[str] = ("Car", "Pedestrian", "Cyclist")
