"""An interrupted run must end exactly as an uninterrupted one, and no interruption may cost an earlier checkpoint."""

from __future__ import annotations

import importlib.util
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from within.core.errors import WithinError
from within.core.train import TrainingStoppedError
from within.core.train.checkpoint import checkpoints, read_checkpoint, write_checkpoint

SCRIPT = Path(__file__).with_name("train_run.py")
spec = importlib.util.spec_from_file_location("train_run", SCRIPT)
assert spec is not None
assert spec.loader is not None
train_run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(train_run)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train_run.run(tmp_path_factory.mktemp("whole"))


def same(first, second) -> bool:
    return train_run.digest(first.model) == train_run.digest(second.model)


def test_a_killed_run_resumes_to_the_same_bits(tmp_path, uninterrupted):
    """Catches any state that a checkpoint forgets: optimizer, schedule, average, order of the data, dropout."""
    died = subprocess.run([sys.executable, SCRIPT, tmp_path, "--die-at", "13"], capture_output=True, timeout=120)
    assert died.returncode == -signal.SIGKILL
    assert [path.stem for path in checkpoints(tmp_path / "checkpoints")] == [
        "iteration_000000005",
        "iteration_000000010",
    ]
    resumed = train_run.run(tmp_path, resume=True)
    assert resumed.resumed_from == 10
    assert same(resumed, uninterrupted)
    assert resumed.losses == uninterrupted.losses
    assert resumed.metrics == uninterrupted.metrics


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_saves_where_it_stands_and_resumes_to_the_same_bits(tmp_path, uninterrupted, number):
    """Catches a Ctrl-C that cuts a step in half, loses the steps since the last checkpoint, or leaves its handler."""
    before = signal.getsignal(number)
    with pytest.raises(TrainingStoppedError, match="after iteration 8") as stopped:
        train_run.run(tmp_path, hooks=[train_run.SendSignal(8, number)])
    assert signal.getsignal(number) is before
    assert stopped.value.where == str(checkpoints(tmp_path / "checkpoints")[-1])
    resumed = train_run.run(tmp_path, resume=True)
    assert resumed.resumed_from == 8
    assert same(resumed, uninterrupted)


def test_a_finished_run_resumes_to_its_result(tmp_path, uninterrupted):
    """Catches averaged weights that are swapped once too often."""
    train_run.run(tmp_path)
    assert same(train_run.run(tmp_path, resume=True), uninterrupted)


def test_a_run_killed_before_the_first_checkpoint_starts_again(tmp_path, uninterrupted):
    """Catches a resume that insists on a checkpoint."""
    assert same(train_run.run(tmp_path, resume=True), uninterrupted)


def test_an_earlier_run_is_not_continued_unasked(tmp_path):
    """Catches a fine-tuning that silently goes on from the checkpoint of another one."""
    train_run.run(tmp_path, iterations=5)
    with pytest.raises(WithinError, match="already holds checkpoints"):
        train_run.run(tmp_path, iterations=5)


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path):
    """Catches checkpoints written in place, and the removal of the old one before the new one is whole."""

    class FillDisk(train_run.SendSignal):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter + 1 == self.iteration:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(WithinError, match="Could not write") as failed:
            train_run.run(tmp_path, hooks=[FillDisk(8, 0)], log_every=100, validate=None, validate_every=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free disk space" in failed.value.todo
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["iteration_000000005.pth"]
    assert train_run.run(tmp_path, resume=True, log_every=100, validate=None, validate_every=None).resumed_from == 5


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """Catches a traceback from inside the Runner."""
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(WithinError, match="Could not create the checkpoint folder"):
        train_run.run(tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    """Catches a traceback from the unpickler."""
    train_run.run(tmp_path, iterations=5)
    path = checkpoints(tmp_path / "checkpoints")[-1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WithinError, match="cannot be read") as damaged:
        train_run.run(tmp_path, iterations=5, resume=True)
    assert str(path) in str(damaged.value)


def test_a_foreign_pickle_is_refused_and_not_executed(tmp_path):
    """Catches a load without `weights_only`: the file below would create a file when unpickled."""

    class Malicious:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "checkpoints").mkdir()
    torch.save({"format": 1, "meta": Malicious()}, tmp_path / "checkpoints" / "iteration_000000005.pth")
    with pytest.raises(WithinError, match="cannot be read"):
        train_run.run(tmp_path, resume=True)
    assert not (tmp_path / "executed").exists()


def test_other_settings_are_not_resumed(tmp_path):
    """Catches a resumed run that mixes two learning rates or seeds and equals neither run."""
    train_run.run(tmp_path, iterations=5)
    with pytest.raises(WithinError, match="seed was 0, now 1"):
        train_run.run(tmp_path, iterations=5, seed=1, resume=True)


def test_another_architecture_is_not_resumed(tmp_path):
    """Catches mmengine's habit to ignore keys that do not fit."""
    write_checkpoint(
        tmp_path / "a.pth",
        {"meta": {"settings": {}}, "state_dict": nn.Conv2d(1, 2, 3).state_dict()},
        nn.Conv2d(1, 2, 3),
    )
    with pytest.raises(WithinError, match=r"weight is \(2, 1, 3, 3\), the model has \(4, 1, 3, 3\)"):
        read_checkpoint(tmp_path / "a.pth", {}, nn.Conv2d(1, 4, 3))
    with pytest.raises(WithinError, match=r"bias is not in the model"):
        read_checkpoint(tmp_path / "a.pth", {}, nn.Conv2d(1, 2, 3, bias=False))


def test_spoilt_weights_are_not_saved(tmp_path):
    """Catches a checkpoint that can only be resumed into NaN."""
    model = nn.Linear(2, 2)
    model.weight.data[0, 0] = float("nan")
    with pytest.raises(WithinError, match="NaN"):
        write_checkpoint(tmp_path / "a.pth", {}, model)
    assert not (tmp_path / "a.pth").exists()


def test_checkpoints_hold_plain_values_only(tmp_path):
    """Catches anything that would need a class declared safe to load."""
    train_run.run(tmp_path, iterations=5)
    state = torch.load(checkpoints(tmp_path / "checkpoints")[-1], weights_only=True)
    assert state["meta"]["iter"] == 5
    assert set(state) == {
        "format", "meta", "state_dict", "optimizer", "param_schedulers", "message_hub", "history", "ema_state_dict",
    }  # fmt: skip
