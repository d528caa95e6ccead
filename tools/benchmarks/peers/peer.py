"""What the bench `speed` asks of an int8 path: a model that runs, made of a network and calibration images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from within.core.device import Session


@dataclass(frozen=True)
class Subject:
    """A network in floating point, in the two forms that quantisers take, and the images that find its ranges.

    Attributes:
        network: in evaluation mode.
        onnx: the same, exported, batch 1.
        calibration: normalised images [1, 3, 224, 224].
    """

    network: nn.Module
    onnx: Path
    calibration: Sequence[Tensor]


@dataclass(frozen=True)
class Peer:
    """An int8 path.

    Attributes:
        name: as the table shows it.
        make: makes the int8 model, with files in a folder of its own: a file for the runtimes, or a session.
        runtimes: where it runs.
    """

    name: str
    make: Callable[[Subject, Path], Path | Session]
    runtimes: Sequence[str]
