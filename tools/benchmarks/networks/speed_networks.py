"""The two networks of the bench `speed`, as trained and stored by `tools.benchmarks.training.speed_resnet18`.

Each is stored with at most 2^bits different values a weight tensor (`within.core.packing`); what is unpacked here is
the floating-point network that is measured, quantised and compared with. The shared values are those of k-means, not
those of any 8-bit grid, so rounding to int8 costs what it costs any network.
"""

from __future__ import annotations

from pathlib import Path

from tools.benchmarks.networks.packed_weights import filled
from tools.benchmarks.networks.resnet18 import ResNet18
from torch import nn

from within.core.plan import apply, read_plan

CLASSES, SIZE = 10, 224
FOLDER = Path(__file__).resolve().parents[1] / "artefacts" / "speed_resnet18"
PLAN = "pruned_plan.json"


def build() -> ResNet18:
    """Returns the untrained dense network."""
    return ResNet18(CLASSES)


def dense_network() -> nn.Module:
    """Returns the trained dense network, in evaluation mode.

    Raises:
        WithinError: when its files are missing or damaged.
    """
    return _filled(build(), "dense")


def pruned_network() -> nn.Module:
    """Returns the trained network of half widths, in evaluation mode: the stored plan replayed, the weights unpacked.

    Raises:
        WithinError: when its files are missing or damaged.
    """
    return _filled(apply(read_plan(FOLDER / PLAN), build()), "pruned")


def _filled(network: nn.Module, name: str) -> nn.Module:
    made_by = "python -m tools.benchmarks.training.speed_resnet18 --directory runs/speed"
    return filled(network, FOLDER, name, made_by=made_by)
