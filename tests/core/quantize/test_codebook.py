"""Codebooks hold the levels they say, and weights go to the nearest one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.quantize.codebook import (
    arbitrary,
    binary,
    integer,
    level_indices,
    logarithmic,
    powers_of_two,
    quantize_to_codebook,
    ternary,
)

LEVELS = st.lists(st.floats(-50, 50).filter(lambda level: abs(level) > 1e-3), min_size=1, max_size=9)


def test_levels_are_those_of_the_paper():
    """Would catch a wrong bound of an integer grid, a missing power of two, or a logarithm of another base."""
    assert integer(8).levels == tuple(float(level) for level in range(-127, 128))
    assert integer(4, narrow=False).levels == tuple(float(level) for level in range(-8, 8))
    assert powers_of_two(3).levels == (-8, -4, -2, -1, 0, 1, 2, 4, 8)
    assert powers_of_two(3, include_two=False).levels == (-8, -4, -1, 0, 1, 4, 8)
    assert logarithmic(3).levels == (-math.log(3), -math.log(2), 0, math.log(2), math.log(3))
    assert ternary().levels == (-1, 0, 1)
    assert binary().levels == (-1, 1)


def test_symmetry_is_seen():
    """Would catch a codebook taken as symmetric that is not, for which a negative scale may be the best."""
    assert integer(5).symmetric
    assert binary().symmetric
    assert not integer(5, narrow=False).symmetric
    assert not arbitrary([0, 1, 2]).symmetric


def test_levels_are_sorted_and_distinct():
    """Would catch a search over levels that are not ascending."""
    assert arbitrary([3, -1.0, 3.0, 0, -0.0]).levels == (-1, 0, 3)


@pytest.mark.parametrize(
    "build",
    [
        lambda: arbitrary([0.0]),
        lambda: arbitrary([]),
        lambda: arbitrary([1.0, math.nan]),
        lambda: arbitrary([1.0, math.inf]),
        lambda: integer(1),
        lambda: integer(9),
        lambda: powers_of_two(-1),
        lambda: logarithmic(1),
    ],
)
def test_impossible_codebooks_are_refused(build):
    """Would catch a codebook with which every scale is as good as any other."""
    with pytest.raises(WithinError):
        build()


@given(LEVELS, st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.floats(0.01, 10), st.booleans())
def test_no_other_level_is_nearer(levels, weights, scale, negative):
    """Would catch thresholds anywhere but halfway between levels, for scales of either sign."""
    scale = -scale if negative else scale
    values = torch.tensor(weights, dtype=torch.float64)
    found = quantize_to_codebook(values, scale, arbitrary(levels))
    every = scale * torch.tensor(arbitrary(levels).levels, dtype=torch.float64)
    least = (values[:, None] - every).abs().amin(1)
    assert torch.all((values - found).abs() <= least + 1e-9)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20), st.floats(0.01, 10))
def test_mirrored_weights_get_mirrored_values(weights, scale):
    """Would catch halves that are rounded up on both sides."""
    values = torch.tensor(weights)
    for codebook in (integer(3), ternary(), powers_of_two(4)):
        found = quantize_to_codebook(values, scale, codebook)
        assert torch.equal(quantize_to_codebook(-values, scale, codebook), -found)


def test_halves_go_toward_zero():
    """Would catch halves on one side that go to the larger magnitude."""
    assert level_indices(torch.tensor([0.5, -0.5, 1.5, -1.5]), 1.0, integer(3)).tolist() == [3, 3, 4, 2]


def test_scales_per_channel_and_group_reach_their_weights():
    """Would catch scales broadcast along the wrong axis, or groups that cross a channel."""
    weights = torch.randn(4, 3, 5)
    scale = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    found = quantize_to_codebook(weights, scale, integer(4), axis=1, group_size=12)
    for channel in range(3):
        flat, expected = weights[:, channel].reshape(-1), found[:, channel].reshape(-1)
        for group, part in enumerate((slice(0, 12), slice(12, 20))):
            assert torch.equal(expected[part], quantize_to_codebook(flat[part], scale[channel, group], integer(4)))


def test_scale_zero_gives_zeros():
    """Would catch a division by a scale of zero."""
    assert torch.equal(quantize_to_codebook(torch.randn(5), 0.0, binary()), torch.zeros(5))


def test_a_scale_of_another_shape_is_refused():
    """Would catch a scale per channel that is silently broadcast along the last axis."""
    with pytest.raises(WithinError, match="shape"):
        quantize_to_codebook(torch.randn(3, 3), torch.ones(3), integer(8))
    with pytest.raises(WithinError, match="no axis"):
        quantize_to_codebook(torch.randn(3, 3), torch.ones(3), integer(8), axis=2)
