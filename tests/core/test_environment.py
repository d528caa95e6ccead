"""The environment that everything runs in: one torch, no package that breaks another, one namespace."""

from __future__ import annotations

import importlib
import importlib.util
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOMAINS = ("core", "nas", "lowlevel", "diffusion", "perception3d", "video", "segmentation")


def installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def test_torchvision_is_absent_or_works():
    """Would catch a torchvision built for CUDA beside a CPU torch: its import fails, and mmengine's Runner with it."""
    if importlib.util.find_spec("torchvision") is not None:
        importlib.import_module("torchvision")


def test_onnxruntime_is_alone():
    """Would catch a second flavour of onnxruntime, which overwrites the files of the first."""
    assert installed("onnxruntime")
    assert not installed("onnxruntime-gpu")
    assert not installed("onnxruntime-openvino")


def test_within_is_a_namespace_without_init():
    """Would catch an `__init__.py` in one package that hides all the others."""
    within = importlib.import_module("within")
    assert getattr(within, "__file__", None) is None
    assert not list((ROOT / "packages").glob("*/src/within/__init__.py"))


@pytest.mark.parametrize("name", DOMAINS)
def test_every_package_is_installed_typed_and_importable(name):
    """Would catch a package that is missing from the environment, from the namespace, or lost its type marker."""
    assert installed(f"within-{name}")
    module = importlib.import_module(f"within.{name}")
    assert module.__doc__
    assert (Path(module.__path__[0]) / "py.typed").is_file()


def test_pinned_versions_are_the_installed_ones():
    """Would catch an installation that ignored the constraints, so that results differ between machines."""
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line and line[0] != "#"
    )
    different = {
        name: (metadata.version(name).split("+")[0], pin)
        for name, pin in pins.items()
        if installed(name) and metadata.version(name).split("+")[0] != pin
    }
    assert not different


@pytest.mark.parametrize("name", DOMAINS)
def test_every_package_says_what_it_is(name):
    """Would catch a package without a README, or a licence that is not ours."""
    folder = ROOT / "packages" / name
    assert (folder / "README.md").read_text().startswith(f"# within-{name}\n")
    assert metadata.metadata(f"within-{name}")["License-Expression"] == "Apache-2.0"
