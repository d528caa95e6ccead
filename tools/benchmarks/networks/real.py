"""Real weights and labelled images of the data folder `core`, as benches and tests use them."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import load_file
from tools.benchmarks.networks.cifar_resnet import CifarResNet
from tools.benchmarks.networks.lenet import lenet_300_100
from tools.data.cifar10 import cifar10
from torch import Tensor, nn

from within.core.errors import WithinError


def core_data() -> Path:
    """Returns the data folder `core`.

    Raises:
        WithinError: when `WITHIN_DATA` does not name a folder that holds it.
    """
    root = os.environ.get("WITHIN_DATA")
    if not root or not (Path(root) / "core").is_dir():
        raise WithinError("This needs real weights and images", todo="set WITHIN_DATA to a folder that holds core/")
    return Path(root) / "core"


def trained_cifar_resnet(depth: int) -> CifarResNet:
    """Returns the CIFAR ResNet of that depth with its published weights, in evaluation mode."""
    published = load_file(core_data() / f"cifar10_resnet{depth}.safetensors")
    blocks = (depth - 2) // 6
    state = {}
    for name, tensor in published.items():
        parts = name.split(".")
        if parts[0].startswith("layer"):
            number = blocks * (int(parts[0].removeprefix("layer")) - 1) + int(parts[1])
            state[".".join(["blocks", str(number), *parts[2:]])] = tensor
        else:
            state[name.replace("conv1.", "conv.").replace("bn1.", "bn.")] = tensor
    model = CifarResNet(depth)
    model.load_state_dict(state)
    return model.eval()


def cifar_images(part: str, first: int = 0, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns normalised images [count, 3, 32, 32] and labels of "train" (12,000) or "test" (2,000)."""
    return cifar10(core_data(), part, first, count)


def trained_lenet() -> nn.Sequential:
    """Returns LeNet-300-100 with its published weights."""
    published = load_file(core_data() / "lenet300_classic_mnist.safetensors")
    model = lenet_300_100()
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(layers):
        weight, bias = (published[f"output.compressible_{number}.{part}"] for part in ("weight", "bias"))
        layer.load_state_dict({"weight": weight, "bias": bias})
    return model.eval()
