"""Linear models of costs: sums over genes are found exactly, errors are those of leaving one out."""

from __future__ import annotations

import numpy as np
import pytest

from within.core.errors import WithinError
from within.nas.linear_cost import PENALTIES, LinearCost
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import SPACE
from within.nas.tables.nasbench201_table import read


def drawn(count, seed=0):
    generator = np.random.default_rng(seed)
    return [SPACE.random(generator) for _ in range(count)]


def test_a_sum_over_genes_is_found():
    known, others = drawn(120), drawn(300, seed=1)
    cost = LinearCost(SPACE, known, np.array([nasbench201.macs(each) / 1e6 for each in known]))
    expected = np.array([nasbench201.macs(each) / 1e6 for each in others])
    np.testing.assert_allclose(cost(others), expected, rtol=1e-4)
    assert cost.error < 1e-2


def test_the_error_is_that_of_leaving_each_out():
    """Fitted anew without each architecture, for every penalty; the least error is the one that counts."""
    known = drawn(25)
    generator = np.random.default_rng(3)
    values = np.array([nasbench201.macs(each) / 1e6 for each in known]) + generator.normal(size=25) * 20
    columns = SPACE.one_hot(known)
    errors = []
    for penalty in PENALTIES:
        missed = []
        for row in range(25):
            rest = np.delete(np.arange(25), row)
            left_out = np.concatenate([np.ones((24, 1)), columns[rest]], axis=1)
            shrink = np.diag([0.0, *[penalty] * columns.shape[1]])
            weights = np.linalg.solve(left_out.T @ left_out + shrink, left_out.T @ values[rest])
            missed.append(values[row] - weights[0] - columns[row] @ weights[1:])
        errors.append(np.sqrt(np.mean(np.square(missed))))
    assert LinearCost(SPACE, known, values).error == pytest.approx(min(errors), rel=1e-6)


@pytest.mark.parametrize(("device", "explained"), [("lat_gold_6226", 0.95), ("lat_samsung_s7", 0.65)])
def test_latency_of_real_devices_is_foretold(data, device, explained):
    """From 100 measured networks, for all 12,500; phones are noisy."""
    table = read(data("nas") / "nasbench201.parquet")
    known = table.rows(np.random.default_rng(0).permutation(len(table))[:100])
    latency = LinearCost(known.space, known.architectures, known.column(device))
    missed = latency(table.architectures) - table.column(device)
    assert 1 - missed.var() / table.column(device).var() > explained
    assert latency.error == pytest.approx(missed.std(), rel=0.35)


def test_what_cannot_be_learned():
    with pytest.raises(WithinError, match="measure three or more"):
        LinearCost(SPACE, drawn(2), np.array([1.0, 2.0]))
    with pytest.raises(WithinError, match=r"NaN.*row 1"):
        LinearCost(SPACE, drawn(3), np.array([1.0, np.nan, 2.0]))
