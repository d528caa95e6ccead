"""What a compression job of a detector says, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from within.core.errors import WithinError
from within.perception3d.ada3d.drop_rate_solver import LEVELS
from within.perception3d.center_decoding import Decoding
from within.perception3d.center_loss import CenterLossWeights
from within.perception3d.detection_settings import DetectionSchedule
from within.perception3d.scene_augmentation import Augmentation


@dataclass(frozen=True)
class DetectorCompression:
    """One compression job: choose, cut, train on, measure, report.

    Attributes:
        data: folder of the data set; chosen on, trained on and measured on.
        network: a run directory of the stage "importance", or a variant with `weights`.
        weights, arguments: of the network, see `open_detector`; `places` says where importance is predicted.
        macs: of the pass that may be left, as a fraction of the dense network's; or
        latency: of the CPU time.
        widths: fractions of the 2-D backbone's widths to choose from, 1 first.
        levels: shares that may stay at a place to choose from.
        scenes: labelled training scenes to choose on.
        importance: of channels, see `within.core.prune`.
        tuning: how it is trained on with places dropped, or None.
        loss: weights of the losses.
        augmentation: of the scenes while it is trained on.
        decoding: how boxes are read.
        split, test: parts of the data set to train and to measure on.
        limit: measure on this many frames only.
        timed: frames on which passes are timed.
        pictures: frames shown in the report.
        device: where it is trained on; None takes CUDA where there is one.
        seed: of everything random.
        run: the run directory.
    """

    data: str
    network: str | None = None
    weights: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    macs: float | None = None
    latency: float | None = None
    widths: Sequence[float] = (1.0, 0.75, 0.5)
    levels: Sequence[float] = LEVELS
    scenes: int = 8
    importance: str = "filter_l1"
    tuning: DetectionSchedule | None = None
    loss: CenterLossWeights = field(default_factory=CenterLossWeights)
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    decoding: Decoding = field(default_factory=Decoding)
    split: str = "train"
    test: str = "val"
    limit: int | None = None
    timed: int = 5
    pictures: int = 3
    device: str | None = None
    seed: int = 0
    run: str | None = None

    def __post_init__(self) -> None:
        if (self.macs is None) == (self.latency is None):
            raise WithinError("Nothing or two things say what may be spent", todo="give macs or latency, a fraction")
        if not self.widths or self.widths[0] != 1:
            raise WithinError(f"The widths to choose from are {list(self.widths)}", todo="give 1 first")
        if not 0 < self.fraction <= 1:
            raise WithinError(f"A budget of {self.fraction} of the dense network", todo="give more than 0, at most 1")

    @property
    def fraction(self) -> float:
        """The budget."""
        given = self.macs if self.macs is not None else self.latency
        assert given is not None
        return given
