"""Fixtures shared by all tests; shapes and types of networks, losses, metrics and data are checked while tests run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for processes that tests start, so that their bits are the same

import pytest
import torch
from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

torch.set_num_threads(1)
# `--hypothesis-profile=default` looks for new examples
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

CHECKED = [f"within.lowlevel.{part}" for part in ("models", "losses", "metrics", "data")]
CHECKED += [
    f"within.segmentation.{part}"
    for part in ("models", "losses", "metrics", "data", "augmentation", "boundary_distance", "label_map", "weights")
]
CHECKED += [  # numba's functions, in some of the other modules, cannot be wrapped
    f"within.perception3d.{part}"
    for part in (
        "ada3d", "boxes", "models", "data", "detections", "center_loss", "center_decoding", "anchor_loss",
        "anchor_targets", "scene_augmentation", "training_scenes", "sparse.sparse_tensor", "sparse.layers",
        "sparse.convolution", "metrics.nuscenes_detection", "metrics.once_ap", "synthetic_lidar", "synthetic_scene",
    )
]  # fmt: skip
checker = ModuleType("within_tests_checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # type: ignore[attr-defined]  # int passes for float
sys.modules[checker.__name__] = checker
install_import_hook(CHECKED, f"{checker.__name__}.check")


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """Returns a function that maps a domain's name to its folder of real data, or skips the test."""

    def folder(domain: str) -> Path:
        root = os.environ.get("WITHIN_DATA")
        if not root or not (Path(root) / domain).is_dir():
            pytest.skip("real data not here: set WITHIN_DATA to a folder that holds them (see docs/data.md)")
        return Path(root) / domain

    return folder
