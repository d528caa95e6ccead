"""What a compression job says, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from within.core.cli.configuration import read_dataclass
from within.core.errors import WithinError
from within.lowlevel.fit_memory import METHODS


@dataclass(frozen=True)
class FineTuning:
    """Training after the cut, with the dense network as teacher.

    Attributes:
        iterations: optimizer steps; 0 for none.
        batch_size, patch_size: of the training.
        learning_rate: of Adam, cosine to zero.
        task_weight: weight of the clean image beside the teacher's output.
        loss: distance to the target.
        checkpoint_every: iterations between two checkpoints, from which an interrupted job goes on.
    """

    iterations: int = 1000
    batch_size: int = 8
    patch_size: int = 64
    learning_rate: float = 1e-3
    task_weight: float = 0.5
    loss: str = "l1"
    checkpoint_every: int = 100


@dataclass(frozen=True)
class CompressSettings:
    """One compression job; give exactly one of `fraction` and `budget_mib`.

    Attributes:
        network: a name of `models.names()`, basicsr:NAME, or a run directory, whose network is compressed further.
        weights: its file; none for a run directory.
        arguments: constructor arguments of the network, beyond those of the name.
        images: folder of clean photographs to calibrate and fine-tune on, or "samples" for those that scikit-image and
            scikit-learn bring along.
        degraded: the photographs of `images` are degraded already, as those that the network will see: there are no
            clean ones, and fine-tuning learns from the dense network alone. So it is where no degradation is known.
        test: folder of held-out photographs to measure on, or "samples"; None measures nothing.
        test_lq: folder of degraded test images, where they are not made.
        protocol: how to measure; by default the usual one for the network.
        sigma: standard deviation of Gaussian noise on the scale 0..255, for denoisers.
        size: height and width of the input for which the budget must hold.
        fraction: of the dense network's live_graph peak at that size.
        budget_mib: absolute, in MiB.
        method: how widths are found, a name of `fit_memory.METHODS`.
        transforms: apply the free transforms first.
        compactors: offer compactors on long skips.
        step, minimum: widths are multiples of `step`, and at least `minimum` of each group.
        calibration: number of patches.
        fine_tuning: training after the cut.
        runtime: where latency is measured; None measures none.
        run: the run directory.
        seed: decides everything random.
    """

    network: str
    weights: str | None = None
    images: str = "samples"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    degraded: bool = False
    test: str | None = "samples"
    test_lq: str | None = None
    protocol: str | None = None
    sigma: float | None = None
    size: Sequence[int] = (512, 512)
    fraction: float | None = None
    budget_mib: float | None = None
    method: str = "whole"
    transforms: bool = True
    compactors: bool = True
    step: int = 4
    minimum: float = 0.125
    calibration: int = 32
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    runtime: str | None = "onnxruntime"
    run: str | None = None
    seed: int = 0


def read_compress_settings(given: Mapping[str, Any], where: str = "configuration") -> CompressSettings:
    """Returns the settings of a mapping.

    Raises:
        WithinError: for unknown or missing keys and impossible values.
    """
    if given.get("network") is None:
        raise WithinError("The job does not say which network to compress", where=where, todo="give network")
    settings = read_dataclass(CompressSettings, given, where)
    if (settings.fraction is None) == (settings.budget_mib is None):
        raise WithinError("The job takes either fraction or budget_mib", where=where, todo="give exactly one of them")
    budget = settings.fraction if settings.fraction is not None else settings.budget_mib
    if budget is None or not budget > 0:
        raise WithinError(f"A budget of {budget} is impossible", where=where, todo="give a positive number")
    if len(settings.size) != 2 or min(settings.size) < 1:
        raise WithinError(f"size is {settings.size!r}", where=where, todo="give (height, width)")
    if settings.method not in METHODS:
        raise WithinError(f"There is no method {settings.method!r}", where=where, todo=f"one of {', '.join(METHODS)}")
    return settings
