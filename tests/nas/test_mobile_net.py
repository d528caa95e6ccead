"""The MobileNetV3 space: published counts, genes of absent blocks, and the table of latencies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.nas.spaces import mobile_net
from within.nas.spaces.mobile_net import SPACE, uniform
from within.nas.tables import device_latency


@pytest.mark.parametrize(
    ("width", "shape", "parameters", "macs_224", "macs_160"),
    [
        (1.0, (7, 6, 4), 7_664_760, 566_170_656, 291_318_048),
        (1.0, (3, 3, 2), 3_410_792, 121_278_672, 63_240_528),
        (1.0, (5, 4, 3), 4_551_792, 250_746_944, 129_548_864),
        (1.2, (7, 6, 4), 10_701_632, 843_101_040, 433_563_888),
        (1.2, (3, 3, 2), 4_602_456, 193_078_200, 100_320_888),
        (1.2, (5, 4, 3), 6_245_312, 385_659_168, 198_948_384),
    ],
)
def test_counts_of_the_official_code(width, shape, parameters, macs_224, macs_160):
    assert mobile_net.parameters(uniform(*shape), width) == parameters
    assert mobile_net.macs(uniform(*shape, 224), width) == macs_224
    assert mobile_net.macs(uniform(*shape, 160), width) == macs_160


def test_the_super_networks():
    assert mobile_net.supernetwork_parameters() == 7_678_880
    assert mobile_net.supernetwork_parameters(1.2) == 10_715_752


@given(st.integers(0, 1_000_000))
def test_genes_of_absent_blocks_do_not_matter(seed):
    generator = np.random.default_rng(seed)
    found, other = SPACE.random(generator), SPACE.random(generator)
    form = SPACE.check(mobile_net.canonical(found))
    assert mobile_net.canonical(form) == form
    assert mobile_net.counts(form) == mobile_net.counts(found)
    mixed = list(found)
    for place in range(mobile_net.PLACES):
        unit, block = divmod(place, mobile_net.BLOCKS)
        absent = block >= mobile_net.depths(found)[unit]
        for gene in (place, mobile_net.PLACES + place):
            mixed[gene] = other[gene] if absent else found[gene]
            changed = (*found[:gene], (found[gene] + 1) % 3, *found[gene + 1 :])
            assert (mobile_net.canonical(changed) == form) == absent
    assert mobile_net.canonical(tuple(mixed)) == form


def test_the_table_of_latencies(data):
    """More work takes longer: on the slowest device with the largest batch the two go together."""
    table = device_latency.read_mobile_net(data("nas") / "ofa_mbv3_latency.parquet")
    assert len(table) == 4000
    macs = [mobile_net.macs(each) for each in table.architectures]
    assert np.corrcoef(macs, table.labels("lat_titan_xp_64"))[0, 1] > 0.9
    assert set(mobile_net.RESOLUTIONS) == {mobile_net.RESOLUTIONS[each[-1]] for each in table.architectures}
