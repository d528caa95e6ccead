"""The latency table by block and level: a fit that is one, and cells that add up."""

from __future__ import annotations

import numpy as np
import pytest

from within.core.errors import WithinError
from within.segmentation.block_latency import BlockModel, Work
from within.segmentation.levels import FORWARD, STEM, as_table, dense_and_pruned, latency_table
from within.segmentation.models import SwiftNetPyramid, build


def test_the_fit_finds_the_model_that_made_the_times():
    """Also the floor, below which a block does not get faster however narrow it is."""
    generator = np.random.default_rng(0)
    true = BlockModel((2e-9, 4e-9, 3e-8, 5e-8), 0.05, 0.6)
    works = [Work(*each) for each in generator.uniform(0, (1e9, 1e8, 1e7, 1e6), (30, 4))]
    works += [Work(*each) for each in generator.uniform(0, (1e8, 1e7, 1e6, 1e5), (10, 4))]
    times = [true(work) for work in works]
    assert times.count(0.6) > 1
    found = BlockModel.fit(works, times)
    assert max(abs(found(work) / time - 1) for work, time in zip(works, times, strict=True)) < 1e-3


def test_no_coefficient_is_negative():
    """Time that falls with work would foretell nonsense outside the cells."""
    works = [Work(whole, 0, moved, 0) for whole, moved in ((1e8, 1e6), (2e8, 2e6), (4e8, 3e6), (8e8, 5e6))]
    found = BlockModel.fit(works, [3.0, 2.0, 1.0, 0.9])
    assert min(*found.coefficients, found.constant, found.floor) >= 0


def test_broken_vectors_are_told_apart():
    """Channels are filled up to 16; those that are no multiple of 4 leave the blocked layout, an image's 3 do not."""
    work = {}
    for width in (16, 12, 14):
        network = SwiftNetPyramid(3, depth=(1, 1, 1, 1), width=width, features=8, levels=2).eval()
        cells = latency_table({"a": network}, (64, 64), levels=2, repeats=1)
        work.update({(width, each.block, each.level): each.work for each in cells})
    assert {each.broken for (width, _, _), each in work.items() if width == 16} == {0}
    assert work[12, "b1", 0].whole == work[16, "b1", 0].whole
    assert work[12, STEM, 0].whole == 0
    assert work[12, STEM, 0].broken_bytes == 4 * (3 * 64 * 64 + 12 * 32 * 32)
    assert work[14, "b1", 0].whole == 0
    assert work[14, "b1", 0].broken == pytest.approx(work[16, "b1", 0].whole * (14 / 16) ** 2)


def test_networks_from_dense_to_the_fraction():
    found = dense_and_pruned(
        SwiftNetPyramid(3, depth=(1, 1, 1, 1), width=16, levels=2), (64, 64), (1, 4), 0.5, widths=3
    )
    assert list(found) == ["dense", "75.0%", "50.0%"]
    assert [network.encoder.stem.conv.out_channels for network in found.values()] == [16, 12, 8]


def test_every_block_of_every_network_at_every_level():
    networks = {"a": SwiftNetPyramid(3, depth=(1, 1, 1, 1), width=8, features=8, levels=2).eval()}
    networks["b"] = SwiftNetPyramid(3, depth=(1, 1, 1, 1), width=16, features=8, levels=2).eval()
    cells = latency_table(networks, (64, 64), levels=2, repeats=2)
    assert len(cells) == 2 * 2 * 6
    assert {each.block for each in cells} == {STEM, "b1", "b2", "b3", "b4", FORWARD}
    work = {(each.network, each.level, each.block): each.work.macs for each in cells}
    blocks = (STEM, "b1", "b2", "b3", "b4")
    assert work["a", 0, FORWARD] == sum(work["a", 0, block] for block in blocks)
    assert work["b", 0, "b2"] == 4 * work["b", 1, "b2"]
    assert all(each.fitted is not None for each in cells if each.block != FORWARD)
    assert len(as_table(cells).rows) == 4


def test_sizes_and_networks_that_cannot_be():
    with pytest.raises(WithinError, match="multiples of 128"):
        latency_table({"a": build("swiftnet_pyramid_rn18")}, (96, 128))
    with pytest.raises(WithinError, match="SwiftNet on a ResNet"):
        latency_table({"a": build("espnet_q3")}, (128, 128))
