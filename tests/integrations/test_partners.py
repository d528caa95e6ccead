"""The optional partners work beside the CPU build of torch, and give the counts that our own networks are held to."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from tools.integrations import torchvision_shim

pytestmark = pytest.mark.integration


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_torch_is_the_one_of_the_main_environment():
    """Would catch an install that replaced torch, which every partner does when its dependencies are followed."""
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
    assert f"torch=={torch.__version__.split('+')[0]}" in pins
    assert metadata.version("torchvision") == "0.28.0"


def test_shim_can_be_installed_twice():
    """Would catch a second definition of the same operator, which torch refuses."""
    assert torchvision_shim.install() == torchvision_shim.install() != "absent"


def test_torchvision_without_the_shim_is_reported_as_compiled_or_fails():
    """Would catch a shim that is no longer needed: when torchvision imports by itself, it must say "compiled"."""
    alone = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True)
    assert (alone.returncode == 0) == (torchvision_shim.install() == "compiled")


def test_timm_builds_and_runs_resnet18():
    """Would catch a timm that cannot import beside this torch."""
    import timm

    model = timm.create_model("resnet18").eval()
    assert parameters(model) == 11_689_512
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_torchvision_resnet18_runs_and_agrees_on_the_count():
    """Would catch a shim that lets torchvision import and leaves its models broken."""
    from torchvision.models import resnet18

    model = resnet18().eval()
    assert parameters(model) == 11_689_512
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("architecture", "options", "count"),
    [
        ("EDSR", {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 16, "upscale": 4}, 1_517_571),
        ("RRDBNet", {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 23}, 16_697_987),
    ],
)
def test_basicsr_architectures(architecture, options, count):
    """Would catch a basicsr whose registry cannot be imported, or that builds other networks than ours are held to."""
    import basicsr.archs  # noqa: F401  (fills the registry)
    from basicsr.utils.registry import ARCH_REGISTRY

    assert parameters(ARCH_REGISTRY.get(architecture)(**options)) == count


def test_torch_pruning_builds_a_dependency_graph():
    """Would catch a torch_pruning that imports and cannot trace."""
    import torch_pruning

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3))
    graph = torch_pruning.DependencyGraph().build_dependency(model, torch.zeros(1, 3, 16, 16))
    group = graph.get_pruning_group(model[0], torch_pruning.prune_conv_out_channels, idxs=[1, 2])
    group.prune()
    assert model(torch.zeros(1, 3, 16, 16)).shape[1] == 4
    assert model[2].in_channels == 6
