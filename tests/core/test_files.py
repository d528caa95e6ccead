"""Files are whole or absent: on a full disk, in a folder that cannot be written, and when the writer fails."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from within.core.errors import WithinError
from within.core.files import atomic_write, new_run_directory, write_json
from within.core.plan import Plan, input_specs
from within.core.pruning import save_model


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """No file can grow beyond `free` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    """Would catch a file that is truncated before the new one is whole."""
    write_json(tmp_path / "metrics.json", {"old": True})
    with full_disk(1000), pytest.raises(WithinError, match="free disk space") as failed:
        write_json(tmp_path / "metrics.json", {"new": "x" * 5000})
    assert str(tmp_path / "metrics.json") in str(failed.value)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    assert "old" in (tmp_path / "metrics.json").read_text()


def test_weights_on_a_full_disk_are_an_error_that_says_so(tmp_path):
    """Would catch a writer of another library whose error is a traceback, and weights that are cut short."""
    model, inputs = nn.Linear(64, 64), (torch.zeros(1, 64),)
    plan = Plan("Linear", input_specs(inputs))
    with full_disk(4000), pytest.raises(WithinError, match="free disk space"):
        save_model(model, plan, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name != "plan.json"]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(TypeError), atomic_write(tmp_path / "file") as temporary:
        temporary.write_text(b"half")
    assert not list(tmp_path.iterdir())


def test_run_directories_are_not_mixed(tmp_path):
    new_run_directory(tmp_path / "run")
    (tmp_path / "run" / "plan.json").write_text("{}")
    with pytest.raises(WithinError, match="exists and is not empty"):
        new_run_directory(tmp_path / "run")
    assert new_run_directory(tmp_path / "run", resume=True) == tmp_path / "run"
    with pytest.raises(WithinError, match="is a file"):
        new_run_directory(tmp_path / "run" / "plan.json")
