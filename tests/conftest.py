"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """Returns a function that maps a domain's name to its folder of real data, or skips the test."""

    def folder(domain: str) -> Path:
        root = os.environ.get("WITHIN_DATA")
        if not root or not (Path(root) / domain).is_dir():
            pytest.skip("real data not here: set WITHIN_DATA to a folder that holds them (see docs/data.md)")
        return Path(root) / domain

    return folder
