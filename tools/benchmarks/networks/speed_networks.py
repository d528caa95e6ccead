"""The two networks of the bench `speed`, as trained and stored by `tools.benchmarks.training.speed_resnet18`.

Each is stored with at most 2^bits different values a weight tensor (`within.core.packing`); what is unpacked here is
the floating-point network that is measured, quantised and compared with. The shared values are those of k-means, not
those of any 8-bit grid, so rounding to int8 costs what it costs any network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.benchmarks.networks.resnet18 import ResNet18
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.packing import PackSettings, pack, unpack
from within.core.plan import apply, read_plan

CLASSES, SIZE = 10, 224
FOLDER = Path(__file__).resolve().parents[1] / "artefacts" / "speed_resnet18"
PLAN = "pruned_plan.json"
MOST_VALUES = 4_500_000  # of one file, which stays below 4 MB


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


def store(state: Mapping[str, Tensor], name: str, bits: int) -> list[Path]:
    """Writes a state dict as `NAME_1.packed` and so on, and returns the files."""
    parts: list[dict[str, Tensor]] = [{}]
    for key, tensor in state.items():
        if sum(value.numel() for value in parts[-1].values()) + tensor.numel() > MOST_VALUES:
            parts.append({})
        parts[-1][key] = tensor
    for old in FOLDER.glob(f"{name}_*.packed"):
        old.unlink()
    FOLDER.mkdir(parents=True, exist_ok=True)
    paths = [FOLDER / f"{name}_{number}.packed" for number in range(1, len(parts) + 1)]
    for part, path in zip(parts, paths, strict=True):
        pack(part, path, PackSettings(bits=bits))
    return paths


def _filled(network: nn.Module, name: str) -> nn.Module:
    paths = sorted(FOLDER.glob(f"{name}_*.packed"))
    if not paths:
        raise WithinError(
            f"The trained {name} network is not there",
            where=str(FOLDER),
            todo="python -m tools.benchmarks.training.speed_resnet18 --directory runs/speed",
        )
    state: dict[str, Tensor] = {}
    for path in paths:
        state |= unpack(path)
    network.load_state_dict(state)
    return network.eval()
