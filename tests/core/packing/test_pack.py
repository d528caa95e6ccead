"""`pack` and `unpack`: what is returned is what is in the file; lossless unless asked; sharing by name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.packing.tensors import same_bits, sparse_tensors
from torch import nn

from within.core.errors import WithinError
from within.core.packing import PackSettings, pack, unpack


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(sparse_tensors(), min_size=1, max_size=3), st.sampled_from([None, 1, 4, 8]))
def test_what_is_returned_is_what_is_in_the_file(tmp_path, tensors, bits):
    """Catches a result that describes other weights than those that were written."""
    original = {str(number): tensor for number, tensor in enumerate(tensors)}
    result = pack(original, tmp_path / "packed", PackSettings(bits=bits))
    found = unpack(tmp_path / "packed")
    assert all(same_bits(found[name], result.state[name]) for name in original)
    for name, tensor in original.items():
        if tensor.ndim < 2:
            assert same_bits(found[name], tensor)
        elif bits is None:  # zeros lose their sign
            assert same_bits(found[name], torch.where(tensor == 0, torch.zeros_like(tensor), tensor))
        else:
            assert len(found[name][found[name] != 0].unique()) <= 2**bits
            assert ((found[name] == 0) == (tensor == 0)).all() or tensor.dtype == torch.float16
    pack(found, tmp_path / "again", PackSettings(bits=bits))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "packed").read_bytes()


def test_a_network_keeps_its_biases_and_statistics(tmp_path):
    """Catches biases or running statistics that are shared like weights, and integers that become floats."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 5))
    model(torch.randn(4, 3, 3, 3))
    result = pack(model, tmp_path / "packed", PackSettings(bits=2))
    found = unpack(tmp_path / "packed")
    for name, tensor in model.state_dict().items():
        assert same_bits(found[name], tensor) == (name not in ("0.weight", "3.weight"))
    nn.init.zeros_(model[0].bias)  # what was returned describes the file, whatever becomes of the model
    assert all(same_bits(found[name], result.state[name]) for name in found)
    model.load_state_dict(found)


def test_bits_by_pattern(tmp_path):
    """Catches patterns that reach other layers, and a pattern for nothing that is passed over in silence."""
    weight = torch.linspace(-1, 1, 64).reshape(8, 8)
    state = {"features.0.weight": weight, "classifier.0.weight": 2 * weight, "head": 3 * weight}
    found = pack(state, tmp_path / "packed", PackSettings(bits={"features.*": 3, "classifier.*": 1})).state
    assert [len(found[name].unique()) for name in state] == [8, 2, 64]
    with pytest.raises(WithinError, match="fits no weight"):
        pack(state, tmp_path / "none", PackSettings(bits={"feature.*": 3}))
    with pytest.raises(WithinError, match="17 bits"):
        pack(state, tmp_path / "none", PackSettings(bits=17))
    assert not (tmp_path / "none").exists()


def test_tied_weights_stay_tied_when_they_are_shared(tmp_path):
    """Catches a tied weight that is clustered and stored twice."""
    model = nn.ModuleDict({"first": nn.Linear(20, 20, bias=False), "second": nn.Linear(20, 20, bias=False)})
    model["second"].weight = model["first"].weight
    pack(model, tmp_path / "packed", PackSettings(bits=4))
    found = unpack(tmp_path / "packed")
    assert found["first.weight"] is found["second.weight"]


def test_nan_is_refused_where_it_would_spread_and_kept_where_it_would_not(tmp_path):
    """Catches NaN that is averaged into a centroid; without sharing it is a bit pattern like any other."""
    state = {"w": torch.tensor([[1.0, float("nan")]])}
    with pytest.raises(WithinError, match="NaN"):
        pack(state, tmp_path / "packed", PackSettings(bits=4))
    pack(state, tmp_path / "packed")
    assert same_bits(unpack(tmp_path / "packed")["w"], state["w"])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """Catches a file that is opened before all is known to be well."""
    pack({"w": torch.ones(3, 3)}, tmp_path / "packed")
    before = (tmp_path / "packed").read_bytes()
    with pytest.raises(WithinError):
        pack({"w": torch.ones(3, 3), "z": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "packed")
    assert (tmp_path / "packed").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "packed"]


def test_parts_of_one_storage_are_not_each_other(tmp_path):
    """Catches the second half of a tensor read back as its first, and an empty tensor in another's type."""
    first, second = torch.randn(8, 3).chunk(2)
    state = {"first": first, "second": second, "again": first, "none": torch.empty(0, 4)}
    state["half"] = torch.empty(0, 4, dtype=torch.float16)
    pack(state, tmp_path / "packed", PackSettings(bits=None))
    found = unpack(tmp_path / "packed")
    assert all(same_bits(found[name], value) for name, value in state.items())
    assert same_bits(pack(state, tmp_path / "shared", PackSettings(bits=8)).state["second"], second)
