"""How long a detector takes, part by part and in each form of its maps; this is `within perception3d bench`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from within.core.cli.configuration import read_dataclass
from within.core.report import ReportTable
from within.perception3d.accounting import PARTS, PassCost, mean_cost, pass_cost
from within.perception3d.models.folding import folded
from within.perception3d.named_detector import Network, detector_of, open_detector
from within.perception3d.scene_sources import find_scenes
from within.perception3d.training_scenes import network_inputs

FORMS = ("dense", "masked", "sparse")


@dataclass(frozen=True)
class TimingSettings:
    """What is timed.

    Attributes:
        network: a variant or a run directory.
        data: the folder of a data set.
        weights, arguments: of the network, see `open_detector`.
        least_score: the sparse form computes boxes only where a score is above it.
        split: part of the data set.
        limit: first frames only.
        repeats: rounds; all forms take turns.
    """

    network: str | Path
    data: str | Path
    weights: str | Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    least_score: float | None = None
    split: str = "val"
    limit: int = 10
    repeats: int = 5


@dataclass(frozen=True)
class DetectorTimes:
    """CPU seconds and costs of one network, means over frames.

    Attributes:
        seconds: of each part, "3d", "2d" and "head", of each frame the least of the rounds, since whatever else runs on
            the machine can only add to it; voxels as the 3-D backbone leaves them become a map within "2d", and Ada3D's
            predictor is within the part where it is asked.
        spread: quartiles of the whole pass over the rounds, relative to the sum of `seconds`.
        cost: multiply-accumulates and stored features.
    """

    seconds: Mapping[str, float]
    spread: tuple[float, float]
    cost: PassCost

    @property
    def total(self) -> float:
        """CPU seconds of the whole pass."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class TimingResult:
    """Times by name of the form."""

    times: Mapping[str, DetectorTimes]

    def table(self) -> ReportTable:
        """Returns a row a form."""
        first = next(iter(self.times.values()))
        rows = []
        for name, found in self.times.items():
            times = (f"{1e3 * found.seconds[part]:.1f}" for part in PARTS[:3])
            macs = (f"{found.cost.macs[part] / 1e9:.2f}" for part in PARTS[:3])
            rows.append(
                (name, *times, f"{1e3 * found.total:.1f}", f"{found.total / first.total:.2f}", *macs,
                 f"{found.cost.total_macs / 1e9:.2f}", f"{found.cost.total_memory / 2**20:.1f}")
            )  # fmt: skip
        columns = (
            "",
            "3-D ms",
            "2-D ms",
            "head ms",
            "all ms",
            "of the first",
            "3-D GMACs",
            "2-D",
            "head",
            "all",
            "MiB",
        )
        return ReportTable("CPU time of one thread", columns, tuple(rows))

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            name: {
                "cpu_seconds": dict(found.seconds), "total": found.total, "spread": list(found.spread),
                "macs": found.cost.macs, "memory": found.cost.memory,
            }
            for name, found in self.times.items()
        }  # fmt: skip


def main(config: Mapping[str, Any]) -> TimingResult:
    """Times a detector in all three forms.

    Raises:
        WithinError: for unknown keys, and as `open_detector` and `find_scenes` do.
    """
    given = {key: value for key, value in config.items() if value is not None}
    settings: TimingSettings = read_dataclass(TimingSettings, given, "bench")
    scenes = find_scenes(settings.data, settings.split)
    named = open_detector(settings.network, weights=settings.weights, arguments=settings.arguments)
    clouds = [scenes.scene(index).points for index in range(min(settings.limit, len(scenes)))]
    networks = {}
    for form in FORMS:
        detector_of(named.model).execution = form
        networks[form] = folded(named.model, least_score=settings.least_score)
    return TimingResult(time_detectors(networks, clouds, repeats=settings.repeats))


def time_detectors(
    networks: Mapping[str, Network], clouds: Sequence[np.ndarray], *, repeats: int = 5
) -> dict[str, DetectorTimes]:
    """Returns times and costs; all networks take turns on every cloud.

    Arguments:
        networks: in evaluation mode.
        clouds: (points, columns) of each frame.
        repeats: rounds over all clouds.
    """
    inputs = {
        name: [network_inputs([cloud], detector_of(network).grid, detector_of(network).columns) for cloud in clouds]
        for name, network in networks.items()
    }
    costs = {
        name: mean_cost([pass_cost(network, *each) for each in inputs[name]]) for name, network in networks.items()
    }
    samples: dict[str, list[list[list[float]]]] = {name: [] for name in networks}  # round, frame, part
    with torch.no_grad():
        for _ in range(repeats):
            for each in samples.values():
                each.append([])
            for number in range(len(clouds)):
                for name, network in networks.items():
                    samples[name][-1].append(_pass(network, inputs[name][number]))
    found = {}
    for name, each in samples.items():
        times = np.array(each)
        least = times.min(0).mean(0)
        low, high = np.quantile(times.sum(2).mean(1), (0.25, 0.75)) / least.sum()
        seconds = dict(zip(PARTS[:3], least.tolist(), strict=True))
        found[name] = DetectorTimes(seconds, (float(low), float(high)), costs[name])
    return found


def _pass(network: Network, inputs: tuple[Tensor, ...]) -> list[float]:
    """Returns the CPU seconds of each part of a pass."""
    detector = detector_of(network)
    marks = [time.thread_time()]
    handles = [
        module.register_forward_hook(lambda *_: marks.append(time.thread_time()))
        for module in (detector.backbone, detector.bev)
    ]
    try:
        network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    marks.append(time.thread_time())
    return [after - before for before, after in itertools.pairwise(marks)]
