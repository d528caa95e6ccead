"""The best weights outlive worse ones and interruptions; every start and every share of a batch is reproducible."""

from __future__ import annotations

import json
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from torch import nn

from within.core.checkpoint import load_state
from within.core.cli.training import train_in
from within.core.errors import WithinError
from within.core.plan import Plan, read_plan
from within.core.train.best_weights import BestWeights
from within.core.train.launch import Launch, share_of_batch
from within.core.train.randomness import seeded

PLAN = Plan("Linear", (), provenance={"network": "linear"})
ALONE = Launch(torch.device("cpu"))


def figures(network: nn.Linear) -> dict[str, float]:
    """The first figure is the weight; the second one is best where the first is worst."""
    return {"weight": network.weight.item(), "other": -network.weight.item()}


def network(weight: float) -> nn.Linear:
    made = nn.Linear(1, 1)
    nn.init.constant_(made.weight, weight)
    return made


@pytest.mark.parametrize("course", [(-3.0, 2.0, 1.0), (5.0, -1.0, 4.0), (0.5,), (-2.0, -7.0)])
def test_the_largest_first_figure_is_kept_over_interruptions(tmp_path, course):
    for weight in course:  # a new object each time, as after an interruption
        assert BestWeights(figures, PLAN, tmp_path)(network(weight)) == {"weight": weight, "other": -weight}
    assert float(load_state(tmp_path / "model.safetensors")["weight"]) == max(course)
    assert json.loads((tmp_path / "best.json").read_text()) == {"weight": max(course), "other": -max(course)}
    assert read_plan(tmp_path / "plan.json") == PLAN


def trained(folder, course, **options):
    def train(model, *, validate, **given):
        for weight in course:
            nn.init.constant_(model.weight, weight)
            if validate is not None:
                validate(model)
        return given

    found = network(0.0)
    given = train_in(folder, train, found, PLAN, config=Config({"seed": 1}), launched=ALONE, **options)
    return found, given


def test_training_ends_with_the_best_weights_and_keeps_the_last(tmp_path):
    found, given = trained(tmp_path / "a", (3.0, 8.0, 1.0), measure=figures, validate_every=4)
    assert found.weight.item() == 8
    assert float(load_state(tmp_path / "a" / "last.safetensors")["weight"]) == 1
    assert given == {
        "processes": 1, "validate_every": 4, "run_directory": tmp_path / "a", "resume": False,
        "device": torch.device("cpu"),
    }  # fmt: skip
    with pytest.raises(WithinError, match="not empty"):
        trained(tmp_path / "a", (2.0,), measure=figures, validate_every=4)
    again, _ = trained(tmp_path / "a", (2.0,), measure=figures, validate_every=4, resume=True)
    assert again.weight.item() == 8  # of the interrupted run


def test_without_a_measurement_the_last_weights_are_the_result(tmp_path):
    found, given = trained(tmp_path / "a", (3.0, 8.0, 1.0), validate_every=4)
    assert given["validate_every"] is None
    assert found.weight.item() == float(load_state(tmp_path / "a" / "model.safetensors")["weight"]) == 1
    assert not (tmp_path / "a" / "best.json").exists()


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 3))
def test_a_batch_is_shared_evenly_or_refused(batch_size, processes, least):
    if batch_size % processes == 0 and batch_size >= least * processes:
        assert share_of_batch(batch_size, processes, least=least) * processes == batch_size
    else:
        with pytest.raises(WithinError, match=f"{batch_size} cannot be divided among {processes}"):
            share_of_batch(batch_size, processes, least=least)


def test_what_is_seeded_is_the_same_and_leaves_the_callers_numbers_alone():
    torch.manual_seed(4)
    random.seed(4)
    plain = torch.rand(3), random.random()
    torch.manual_seed(4)
    random.seed(4)
    first = seeded(7, lambda: nn.Linear(3, 2))
    assert torch.equal(torch.rand(3), plain[0])
    assert random.random() == plain[1]
    assert torch.equal(seeded(7, lambda: nn.Linear(3, 2)).weight, first.weight)
    assert not torch.equal(seeded(8, lambda: nn.Linear(3, 2)).weight, first.weight)
