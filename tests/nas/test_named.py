"""Spaces and tables by name: what holds for all of them alike."""

from __future__ import annotations

import time

import numpy as np
import pytest

from within.core.errors import WithinError
from within.nas.spaces.named import SPACES, costs, space
from within.nas.tables.named import TABLES, read_table

FILES = {
    "nasbench201": "nasbench201",
    "nasbench_macro": "nasbench_macro",
    "accel_nasbench": "accel_nasbench_imagenet",
    "nasnet_cell": "lanas_nasnet_cell_acc",
    "transnasbench101": "transnasbench101_micro",
    "mobile_net_v3": "ofa_mbv3_latency",
}


@pytest.mark.parametrize("name", SPACES)
def test_canonical_forms_keep_what_is_equal(name):
    """Forms that are architectures are forms of themselves and never cost more; all are fast."""
    found, generator = space(name), np.random.default_rng(0)
    architectures = [found.random(generator) for _ in range(200)]
    start = time.thread_time()
    forms = [found.canonical(each) for each in architectures]
    assert time.thread_time() - start < 200 * 2e-3
    assert len({hash(form) for form in forms}) > 50
    for architecture, form in zip(architectures, forms, strict=True):
        if name != "nasbench101":
            assert found.canonical(found.check(form)) == form
            assert all(cost(form) <= cost(architecture) for cost in costs(name).values())


@pytest.mark.parametrize("name", SPACES)
def test_costs_of_neighbours(name):
    """Costs are whole and positive, and some change of one gene changes them."""
    found, generator = space(name), np.random.default_rng(1)
    architecture = found.random(generator)
    for cost in costs(name).values():
        values = {cost(each) for each in found.neighbours(architecture)}
        assert all(isinstance(value, int) and value > 0 for value in values)
        assert len(values) > 1


@pytest.mark.parametrize("name", FILES)
def test_tables_hold_networks_of_their_spaces(name, data):
    table = read_table(name, data("nas") / f"{FILES[name]}.parquet")
    assert table.space is SPACES[name]
    assert len(set(table.architectures)) == len(table) > 1000
    assert all(len(values) == len(table) for values in table.columns.values())


def test_unknown_names(tmp_path):
    with pytest.raises(WithinError, match=r"no space 'nasbench'.*nasbench201"):
        space("nasbench")
    with pytest.raises(WithinError, match="no space 'nasbench'"):
        costs("nasbench")
    with pytest.raises(WithinError, match=r"no table 'nats'.*nasbench201"):
        read_table("nats", tmp_path)
    assert set(TABLES) == set(SPACES)
