"""Two CPU processes under torchrun share their gradients, end with the same weights, and resume together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("train_run.py")


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SCRIPT, *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=180)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_end_with_the_same_weights_interrupted_or_not(tmp_path):
    """Catches mmengine's CPU launcher, gradients or buffers that are not shared, and a resume that
    the ranks do not agree on."""
    whole = torchrun(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    digests = dict(line.split() for line in whole.stdout.splitlines())
    assert digests.keys() == {"0", "1"}
    assert digests["0"] == digests["1"]

    killed = torchrun(tmp_path / "killed", "--die-at", "13")
    assert killed.returncode != 0
    resumed = torchrun(tmp_path / "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert dict(line.split() for line in resumed.stdout.splitlines()) == digests
