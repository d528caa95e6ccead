"""A fast part of the bench `counts`, through the functions of the bench; the whole table takes a minute."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tools.benchmarks import counts

pytestmark = pytest.mark.integration

FAST = ("resnet18", "mobilenet_v2", "mobilenetv2_100", "mobilenet_v3_small", "mobilenetv3_small_100", "squeezenet1_0",
        "mobilenet_v1", "LeNet-5", "CIFAR ResNet-20", "dncnn_s", "imdn_rtc_x2", "n2n_unet", "cyclegan_resnet9",
        "pmrid")  # fmt: skip
ROWS = [row for row in counts.rows() if row.name in FAST]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}-{row.source}-{row.convention}")
def test_counts_to_the_last_digit(row: counts.Row):
    """Convolutions, linear layers, products, parameters, and an independent count from hooks."""
    line, right = counts.count(row)
    assert right, line


@pytest.mark.parametrize("field", ["total", "parameters", "convolution", "linear"])
def test_one_more_is_wrong(field: str):
    """A comparison that forgets a column."""
    row = next(row for row in ROWS if row.name == "resnet18" and row.source == "torchvision")
    assert not counts.count(replace(row, **{field: getattr(row, field) + 1}))[1]


def test_the_table_is_whole():
    """Every network once from each source, and no row without numbers."""
    rows = counts.rows()
    assert len(rows) == len({(row.name, row.source, row.convention) for row in rows}) == 59
    assert all(row.total > 0 and row.parameters > 0 for row in rows)
