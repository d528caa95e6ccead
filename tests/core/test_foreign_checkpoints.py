"""What others wrote is read as tensors: whatever lies around them is left out, and nothing of it runs."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from within.core.checkpoint import STATES, load_tensors, without_parallel_prefix
from within.core.errors import WithinError


class History:
    """An object with a state and a class of its own, as training tools keep them."""

    def __init__(self) -> None:
        self.losses, self.steps = np.array([1.5, 0.5]), [1, 2]


class Hostile:
    """Asks for a file to be written when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("key", STATES)
def test_weights_are_found_among_other_things(tmp_path, key):
    weights = {"module.a": torch.rand(3), "module.module.b": torch.rand(2)}
    around = {"history": [History(), np.float64(0.5)], "settings": {"rate": 0.1}, "epoch": 3}
    torch.save({key: weights, **around}, tmp_path / "theirs.pth")
    found = load_tensors(tmp_path / "theirs.pth")
    assert list(found) == list(weights)
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert list(without_parallel_prefix(found)) == ["a", "b"]
    torch.save({key: weights}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert list(load_tensors(tmp_path / "old.pth")) == list(weights)


def test_nothing_runs(tmp_path):
    content = {"state_dict": {"a": torch.ones(1)}, "hook": Hostile(tmp_path / "made")}
    torch.save(content, tmp_path / "hostile.pth")
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(content))
    for name in ("hostile.pth", "old.pth", "bare.pth"):
        with pytest.raises(WithinError, match="never run"):
            load_tensors(tmp_path / name)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {"epoch": 3}}, {"model": nn.Linear(2, 2)}])
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WithinError, match="holds no weights"):
        load_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_spoilt_weights_are_refused_by_name(tmp_path, value):
    torch.save({"good": torch.ones(1), "bad.weight": torch.tensor([1.0, value])}, tmp_path / "a.pth")
    with pytest.raises(WithinError, match=r"bad\.weight hold NaN or infinity"):
        load_tensors(tmp_path / "a.pth")
