"""Interpolation between measured widths: only inside a step of the staircase, and never elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.cost.plateau import TOLERANCE, interpolate, plateaus, same_step

POINTS = st.dictionaries(
    st.tuples(st.integers(1, 40), st.integers(1, 4)),
    st.tuples(st.floats(0.5, 2.0), st.floats(0.0, 0.3)),
    min_size=1,
    max_size=30,
)


@given(measured=POINTS, widths=st.tuples(st.integers(1, 40), st.integers(1, 4)))
def test_interpolated_only_between_two_neighbours_on_one_step(measured, widths):
    """An extrapolation, or a value across a step of the staircase, would be a time that nobody measured."""
    time = interpolate(measured, widths)
    if widths in measured:
        assert time == measured[widths][0]
        return
    bounds = []
    for axis in range(2):
        line = {key[axis]: point for key, point in measured.items() if key[1 - axis] == widths[1 - axis]}
        below, above = [w for w in line if w < widths[axis]], [w for w in line if w > widths[axis]]
        if below and above and same_step(line[max(below)], line[min(above)]):
            bounds.append(sorted((line[max(below)][0], line[min(above)][0])))
    assert (time is None) == (not bounds)
    if time is not None:
        assert any(low * (1 - 1e-12) <= time <= high * (1 + 1e-12) for low, high in bounds)


@given(time=st.floats(0.1, 10), share=st.floats(TOLERANCE * 1.01, 1), spread=st.floats(0, 100))
def test_a_difference_above_the_tolerance_is_a_step_however_noisy(time: float, share: float, spread: float):
    """Noise must not turn a staircase into one plateau."""
    assert not same_step((time, spread), (time * (1 + share), spread))


def test_a_difference_above_the_spread_is_a_step():
    """Exact measurements resolve steps smaller than the tolerance."""
    assert same_step((1.0, 0.02), (1.01, 0.001))
    assert not same_step((1.0, 0.002), (1.01, 0.001))


def test_plateaus_of_a_staircase_are_its_steps():
    """Blocks of sixteen channels."""
    line = [(width, (1.0 + -(-width // 16), 0.01)) for width in range(8, 72, 8)]
    assert [plateau.widths for plateau in plateaus(line)] == [(8, 16), (24, 32), (40, 48), (56, 64)]
    assert plateaus(line)[0].time == pytest.approx(2.0)
