"""A name, weights and arguments come to one network, or to a sentence that says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from within.core.checkpoint import load, save_model
from within.core.errors import WithinError
from within.core.named_network import NamedNetwork, find_origin, first_plan, run_among, with_attributes
from within.core.plan import Plan


def run_of(folder, name="linear", **arguments):
    model = nn.Linear(2, 3)
    save_model(model, first_plan(model, name, arguments, (torch.zeros(1, 2),), seed=7), folder)
    return model


def test_a_run_directory_says_which_network_it_holds(tmp_path):
    model = run_of(tmp_path / "run", width=3)
    by_name, by_weights = find_origin(tmp_path / "run"), find_origin("other", weights=tmp_path / "run")
    assert by_name == by_weights  # weights that are a run directory know better than the name
    assert (by_name.name, by_name.arguments, by_name.run) == ("linear", {"width": 3}, tmp_path / "run")
    assert by_name.weights is None
    assert by_name.plan is not None
    assert by_name.plan.provenance["seed"] == 7
    assert by_name.plan.example_inputs()[0].shape == (1, 2)
    assert torch.equal(load(by_name.run, lambda: nn.Linear(2, 3)).weight, model.weight)


def test_what_is_given_beside_a_run_directory_holds(tmp_path):
    run_of(tmp_path / "run", width=3, depth=2)
    found = find_origin(tmp_path / "run", weights=tmp_path / "later.pth", arguments={"depth": 5})
    assert found.arguments == {"width": 3, "depth": 5}
    assert found.weights == tmp_path / "later.pth"
    assert found.run == tmp_path / "run"


def test_a_variant_keeps_its_arguments_and_file():
    found = find_origin("linear", weights="a.pth", arguments={"width": 1})
    assert (found.name, found.arguments, str(found.weights), found.run, found.plan) == (
        "linear", {"width": 1}, "a.pth", None, None,
    )  # fmt: skip


def test_what_says_nothing_is_refused(tmp_path):
    with pytest.raises(WithinError, match="Nothing says which network"):
        find_origin(weights="a.pth")
    for given in ({"name": tmp_path}, {"name": "linear", "weights": tmp_path}):
        with pytest.raises(WithinError, match="no run directory"):
            find_origin(**given)
    save_model(nn.Linear(1, 1), Plan("Linear", ()), tmp_path / "nameless")
    with pytest.raises(WithinError, match=r"names no network.*nameless"):
        find_origin(tmp_path / "nameless")


def test_the_first_run_directory_is_meant(tmp_path):
    run_of(tmp_path / "a")
    run_of(tmp_path / "b")
    (tmp_path / "b" / "plan.json").unlink()
    assert run_among(None, tmp_path / "b", "linear", tmp_path / "a") == tmp_path / "a"
    assert run_among(tmp_path / "b", tmp_path / "a", holds="model.safetensors") == tmp_path / "b"
    assert run_among("linear", None) is None


def test_a_compressed_network_says_of_itself_what_the_dense_one_said():
    dense, small = nn.Linear(1, 1), nn.Linear(1, 1)
    dense.scale, dense.classes, small.scale = 4, 11, 2
    found = with_attributes(small, lambda: dense, {"scale": 1, "classes": 0, "void": False})
    assert (found.scale, found.classes, found.void) == (2, 11, False)
    assert with_attributes(found, lambda: pytest.fail("built for nothing"), {"scale": 1}) is found


def test_a_network_is_called_after_its_run_and_prints_without_its_weights():
    assert NamedNetwork("linear", {}, nn.Linear(1, 1)).title == "linear"
    assert NamedNetwork("linear", {}, nn.Linear(1, 1), run=Path("runs/half")).title == "half"
    assert "Linear(" not in repr(NamedNetwork("linear", {}, nn.Linear(1, 1)))
