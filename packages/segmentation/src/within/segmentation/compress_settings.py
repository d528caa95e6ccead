"""What a compression job says, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from within.core.errors import WithinError
from within.segmentation.prediction import height_width
from within.segmentation.training_settings import Schedule

COSTS = ("macs", "parameters", "peak_memory", "latency")


@dataclass(frozen=True)
class CompressSettings:
    """One compression job: cut, fine-tune, quantise, export, measure, report.

    Attributes:
        network: a variant or a run directory, whose network is compressed further.
        data: folder of the data set; trained on, calibrated on and measured on.
        weights, arguments: of the network, see `open_network`.
        stages, fraction: cut these stages to a fraction of their widths; or
        budgets: hard limits by cost ("macs", "parameters", "peak_memory", "latency"), fractions of the dense network.
        importance: of channels: see `within.core.prune`.
        protect: modules besides the class head whose outputs are not cut.
        fine_tuning: how it is trained on, or None.
        distillation: weight of the dense network's answers beside the labels while fine-tuning; 0 for none.
        int8: quantise to 8 bits.
        calibration: number of training images for the ranges.
        quantization: settings of `within.core.quantize.quantize`.
        fp16: measure half precision too.
        size: height and width that the network will work at.
        split, test: parts of the data set to train and to measure on.
        limit: measure on this many images only.
        runtimes: to time the files on.
        device: where it is fine-tuned and evaluated; None takes CUDA where there is one.
        seed: of everything random.
        run: the run directory.
    """

    network: str
    data: str
    weights: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[int] | None = None
    fraction: float = 0.5
    budgets: Mapping[str, float] = field(default_factory=dict)
    importance: str = "filter_l1"
    protect: Sequence[str] = ()
    fine_tuning: Schedule | None = None
    distillation: float = 0.0
    int8: bool = True
    calibration: int = 32
    quantization: Mapping[str, Any] = field(default_factory=dict)
    fp16: bool = False
    size: Sequence[int] = (256, 512)
    split: str = "train"
    test: str = "val"
    limit: int | None = None
    runtimes: Sequence[str] = ("onnxruntime",)
    device: str | None = None
    seed: int = 0
    run: str | None = None

    @property
    def working_size(self) -> tuple[int, int]:
        """`size` as a pair."""
        return int(self.size[0]), int(self.size[1])

    def __post_init__(self) -> None:
        height_width(self.size)
        if self.stages is not None and self.budgets:
            raise WithinError("Stages and budgets both say what to cut", todo="give one of them")
        unknown = [name for name in self.budgets if name not in COSTS]
        if unknown:
            raise WithinError(f"There is no cost named {unknown[0]!r}", todo=f"choose among {', '.join(COSTS)}")
        if self.distillation < 0:
            raise WithinError(f"A weight of distillation of {self.distillation}", todo="give 0 or more")
