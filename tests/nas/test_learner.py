"""Learners by name: each learns an order, repeats itself, and says what it does not know."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from within.core.errors import WithinError
from within.nas.learner import LearnerSettings, learner
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import SPACE
from within.nas.tables.table import Table

QUICK = {"epochs": 40, "widths": (32,), "batch_size": 32}
LEARNERS = {
    "gates": LearnerSettings(encoder="gates", **QUICK),
    "lstm, bce": LearnerSettings(encoder="lstm", loss="bce", **QUICK),
    "comparator": LearnerSettings(encoder="gates", loss="comparator", **QUICK),
    "dele": LearnerSettings(encoder="lstm", cheap_labels=("macs", "noisy"), cheap_epochs=5, **QUICK),
    "forest": LearnerSettings(baseline="forest"),
    "boosting": LearnerSettings(baseline="boosting", features="graph"),
    "ridge": LearnerSettings(baseline="ridge", features="graph", cheap_labels=("noisy",)),
}


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(0)
    cells = list(dict.fromkeys(SPACE.random(generator) for _ in range(260)))
    macs = np.array([nasbench201.macs(cell) / 1e6 for cell in cells])
    noisy = np.where(generator.random(len(cells)) < 0.3, np.nan, macs + generator.normal(size=len(cells)) * 30)
    noisy[3] = -1e8
    truth = np.array([sum((0, 1, 4, 9, 3)[op] for op in nasbench201.live(cell)) for cell in cells], dtype=float)
    return Table(SPACE, tuple(cells), {"macs": macs, "noisy": noisy, "truth": truth})


@pytest.mark.parametrize("name", LEARNERS)
def test_an_order_is_learned_and_repeated(table, name):
    known, others = table.rows(range(120)), table.rows(range(120, len(table)))
    scores = []
    for _ in range(2):
        score = learner(LEARNERS[name], known, "nasbench201", seed=1)(known.architectures, known.column("truth"), 0)
        scores.append(score(others.architectures))
    np.testing.assert_array_equal(*scores)
    assert kendalltau(scores[0], others.column("truth")).statistic > 0.35


def test_experts_are_kept_and_taken_from_the_disk(table, tmp_path):
    settings = LEARNERS["dele"]
    one = learner(settings, table, "nasbench201", keep=tmp_path)
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    changed = files[0].stat().st_mtime_ns
    two = learner(settings, table, "nasbench201", keep=tmp_path)
    assert files[0].stat().st_mtime_ns == changed
    known = table.rows(range(40))
    found = [learn(known.architectures, known.column("truth"), 0)(table.architectures) for learn in (one, two)]
    np.testing.assert_array_equal(*found)


def test_what_there_is_not():
    for wrong, message in (
        ({}, "needs an encoder or a baseline"),
        ({"encoder": "gates", "baseline": "forest"}, "needs an encoder or a baseline"),
        ({"encoder": "gate"}, "no encoder 'gate'.*gates"),
        ({"baseline": "tree"}, "no baseline 'tree'.*forest"),
        ({"encoder": "gates", "loss": "mae"}, "no loss 'mae'.*comparator"),
        ({"baseline": "ridge", "features": "paths"}, "no features 'paths'"),
    ):
        with pytest.raises(WithinError, match=message):
            LearnerSettings(**wrong)
    with pytest.raises(WithinError, match="no graph features of 'darts'"):
        learner(LearnerSettings(baseline="forest", features="graph"), Table(SPACE, (), {}), "darts")
