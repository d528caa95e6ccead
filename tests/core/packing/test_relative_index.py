"""Relative indices: every position comes back, padding only where a gap needs it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.packing.relative_index import decode_positions, encode_positions

positions = st.sets(st.integers(0, 100_000), max_size=60).map(sorted).map(lambda each: np.array(each, dtype=np.int64))


@given(positions, st.integers(1, 16))
def test_positions_come_back(places, bits):
    """Catches a gap counted from the wrong entry, and padding that shifts what follows."""
    gaps, padding = encode_positions(places, bits)
    assert (gaps >= 0).all()
    assert (gaps < 1 << bits).all()
    assert (gaps[padding] == (1 << bits) - 1).all()
    size = int(places[-1]) + 1 if len(places) else 0
    assert decode_positions(gaps, size)[~padding].tolist() == places.tolist()


@given(positions, st.integers(1, 16))
def test_padding_is_the_least_that_the_gaps_need(places, bits):
    """Catches a superfluous padding zero: each covers 2^b positions, so a run of z zeros needs floor(z / 2^b)."""
    zeros = np.diff(places, prepend=-1) - 1
    _, padding = encode_positions(places, bits)
    assert padding.sum() == sum(int(run) // 2**bits for run in zeros)


def test_figure_2_of_the_paper():
    """Catches another convention than the paper's: entries at 1, 4 and 15 with three bits need a filler at 12."""
    gaps, padding = encode_positions(np.array([1, 4, 15]), 3)
    assert decode_positions(gaps, 16).tolist() == [1, 4, 12, 15]
    assert padding.tolist() == [False, False, True, False]
    assert (gaps + 1).tolist() == [2, 3, 8, 3]  # the paper counts the step, not the zeros, and starts at 0


def test_impossible_gaps_are_refused():
    """Catches entries beyond the tensor and widths that no stream has."""
    with pytest.raises(WithinError, match="element 5"):
        decode_positions(np.array([5]), 5)
    for bits in (0, 17):
        with pytest.raises(WithinError, match="bits"):
            encode_positions(np.array([1]), bits)
