"""Monotone and convex forms of measured curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.solve import convex, monotone, sensitivity_curve
from within.core.solve.convex import hull_vertices


@st.composite
def curves(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    y = draw(st.lists(st.floats(-5, 5), min_size=1, max_size=9))
    gaps = draw(st.lists(st.floats(0.1, 3), min_size=len(y), max_size=len(y)))
    return np.cumsum(gaps), np.asarray(y)


@settings(deadline=None)
@given(curves())
def test_the_hull_is_convex_below_the_points_and_touches_its_ends(curve: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = curve
    hull = convex(x, y)
    assert (hull <= y).all()
    assert (hull[0], hull[-1]) == (y[0], y[-1])
    slopes = np.diff(hull) / np.diff(x)
    assert (np.diff(slopes) >= -1e-9).all()


@settings(deadline=None)
@given(curves(), st.data())
def test_no_convex_function_below_the_points_is_larger(
    curve: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    """The hull is at least every chord's lower line: any line under all points is under the hull."""
    x, y = curve
    slope = data.draw(st.floats(-10, 10))
    line = slope * x + (y - slope * x).min()
    assert (convex(x, y) >= line - 1e-9).all()


@settings(deadline=None)
@given(curves(), st.booleans())
def test_the_sensitivity_curve_is_monotone_and_convex(curve: tuple[np.ndarray, np.ndarray], rising: bool) -> None:
    x, y = curve
    fit = sensitivity_curve(x, y, increasing=rising)
    steps = np.diff(fit) if rising else -np.diff(fit)
    assert (steps >= -1e-12).all()
    assert (np.diff(np.diff(fit) / np.diff(x)) >= -1e-9).all()


@settings(deadline=None)
@given(curves())
def test_the_monotone_fit_keeps_what_is_monotone_and_the_mean(curve: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = curve
    falling = -np.sort(-y)
    np.testing.assert_allclose(monotone(x, falling), falling)
    assert monotone(x, y).mean() == pytest.approx(y.mean(), abs=1e-9)


def test_weights_pull_the_fit() -> None:
    fit = monotone([1, 2], [0.0, 1.0], weights=[3, 1])
    np.testing.assert_allclose(fit, 0.25)


def test_points_on_a_chord_are_no_vertices() -> None:
    assert hull_vertices([0, 1, 2, 3], [0, 1, 2, 5]).tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("points", "losses", "message"),
    [
        ([1, 1], [0, 0], "strictly increase"),
        ([1, 2], [0], "as many"),
        ([], [], "as many"),
        ([1, 2], [0, np.nan], "not a finite"),
    ],
)
def test_bad_curves_are_clear_errors(points: list, losses: list, message: str) -> None:
    with pytest.raises(WithinError, match=message):
        sensitivity_curve(points, losses)


def test_bad_weights_are_clear_errors() -> None:
    with pytest.raises(WithinError, match="weights"):
        monotone([1, 2], [0, 1], weights=[1, 0])
