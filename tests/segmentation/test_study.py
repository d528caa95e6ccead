"""The study: three starts that are what they are called, and nothing done twice."""

from __future__ import annotations

import pytest
import torch
from tests.segmentation.segmentation_data import ARGUMENTS, small_data

from within.core.errors import WithinError
from within.core.pruning import apply, read_plan
from within.segmentation import study as study_module
from within.segmentation.models import build
from within.segmentation.named_network import open_network
from within.segmentation.study import main, table

SCHEDULE = {"iterations": 2, "batch_size": 2, "crop": [64, 64], "scale": (0.5, 1.5), "workers": 0}


def settings(folder, **changed):
    training = {
        "name": "study", "network": "swiftnet_rn18", "arguments": ARGUMENTS, "data": str(folder), "schedule": SCHEDULE,
    }  # fmt: skip
    return {"training": training, "cuts": {"all": (1, 2, 3, 4)}, **changed}


def test_the_arms_start_as_they_are_called_and_a_second_call_trains_nothing(tmp_path, monkeypatch):
    data = small_data(tmp_path / "data", train=4, val=2)
    starts = {}
    original = study_module.train_network

    def watched(network, *arguments, **options):
        starts[options["description"]] = {name: value.clone() for name, value in network.state_dict().items()}
        return original(network, *arguments, **options)

    monkeypatch.setattr(study_module, "train_network", watched)
    folder, results = main(settings(data), run_directory=tmp_path / "run")
    assert [each.arm for each in results] == ["dense", "LTH", "FT", "RI"]
    plan = read_plan(folder / "all-LTH-0" / "plan.json")
    untrained = build("swiftnet_rn18", **ARGUMENTS)
    untrained.load_state_dict(starts["dense-0"])
    rewound = apply(plan, untrained).state_dict()
    kept = apply(plan, open_network(folder / "dense-0").model).state_dict()
    name = "encoder.stages.2.0.conv1.weight"
    assert torch.equal(starts["all-LTH-0"][name], rewound[name])
    assert torch.equal(starts["all-FT-0"][name], kept[name])
    assert starts["all-RI-0"][name].shape == kept[name].shape
    assert not torch.equal(starts["all-RI-0"][name], rewound[name])
    pruned = {each.parameters for each in results[1:]}
    assert len(pruned) == 1
    assert pruned.pop() < results[0].parameters
    starts.clear()
    assert main(settings(data), run_directory=tmp_path / "run")[1] == results
    assert not starts
    assert [row[1] for row in table(results).rows] == ["dense", "LTH", "FT", "RI"]


def test_an_unknown_arm_is_refused(tmp_path):
    with pytest.raises(WithinError, match="LTH, FT, RI"):
        main(settings(tmp_path, arms=["XX"]), run_directory=tmp_path / "run")
    with pytest.raises(WithinError, match="training"):
        main({"seeds": [0]}, run_directory=tmp_path / "run")
