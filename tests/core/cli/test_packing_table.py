"""The table of Deep Compression: its densities are the paper's, and it runs on the digits that are here."""

from __future__ import annotations

from math import prod

import pytest
from mmengine.config import Config

from within.core.bench import benchmark_folder
from within.core.cli.configuration import load_config
from within.core.cli.packing import read_packing
from within.core.cli.packing_table import packing_table
from within.core.errors import WithinError

ALEXNET = {
    "features.0.weight": (64, 3, 11, 11),
    "features.3.weight": (192, 64, 5, 5),
    "features.6.weight": (384, 192, 3, 3),
    "features.8.weight": (256, 384, 3, 3),
    "features.10.weight": (256, 256, 3, 3),
    "classifier.1.weight": (4096, 9216),
    "classifier.4.weight": (4096, 4096),
    "classifier.6.weight": (1000, 4096),
}
WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG16 = {
    **{
        f"features.{layer}.weight": (outputs, inputs, 3, 3)
        for layer, inputs, outputs in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), WIDTHS, WIDTHS[1:])
    },
    "classifier.0.weight": (4096, 25088),
    "classifier.3.weight": (4096, 4096),
    "classifier.6.weight": (1000, 4096),
}
LENET_300_100 = {"1.weight": (300, 784), "3.weight": (100, 300), "5.weight": (10, 100)}
LENET_5 = {"0.weight": (20, 1, 5, 5), "2.weight": (50, 20, 5, 5), "5.weight": (500, 800), "7.weight": (10, 500)}


@pytest.fixture
def table() -> Config:
    return load_config(benchmark_folder().parent / "reproduce" / "deep_compression.py")


@pytest.mark.parametrize(
    ("number", "shapes", "density"),
    [(0, LENET_300_100, 0.08), (1, LENET_5, 0.08), (2, ALEXNET, 0.11), (3, VGG16, 0.075)],
)
def test_densities_add_up_to_the_published_total(table, number, shapes, density):
    """Catches a density at the wrong layer: the paper gives 8, 8, 11 and 7.5 % of all weights."""
    given = table.rows[number].density.to_dict()
    assert given.keys() == shapes.keys()
    kept = sum(prod(shapes[name]) * share for name, share in given.items())
    assert kept / sum(prod(shape) for shape in shapes.values()) == pytest.approx(density, abs=0.006)


def test_every_row_is_a_configuration(table):
    """Catches a key that `within pack` does not know."""
    for row in table.rows:
        settings = {key: value for key, value in row.items() if key not in ("name", "published")}
        read_packing(settings, where=row.name)
        assert {"rate", "before", "after"} == set(row.published)


def test_the_table_runs_on_the_digits_that_are_here(table, data):
    """Catches readers or weights that do not fit; and a missing file that ends the whole table."""
    for row in table.rows:
        row.update(rounds=1, retraining=20, sharing=10)
    result = packing_table(table, data("core"))
    lenet, *others = (dict(zip(result.columns, row)) for row in result.rows)
    assert lenet["remark"] == ""
    assert lenet["rate"] > 30
    assert lenet["top-1 error before"] == pytest.approx(2.0, abs=0.5)
    assert lenet["top-1 error after"] < 40  # twenty steps repair little
    assert all("The weights are missing" in row["remark"] for row in others)


def test_a_folder_without_weights_is_an_error(table, tmp_path):
    """Catches a table of nothing."""
    with pytest.raises(WithinError, match="No row"):
        packing_table(table, tmp_path)
