"""Widths under many linear limits: the integer programme against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.solve import InfeasibleBudget, allowed_widths, fit_widths, needed_rows


def network(seed: int, groups: int, rows: int, convex: bool) -> tuple[list, np.ndarray]:
    """Loss curves over 8 to 24 channels, and bytes a channel at each step."""
    random = np.random.default_rng(seed)
    curves = []
    for full in random.integers(8, 25, groups).tolist():
        points = np.unique(np.round(np.linspace(2, full, 4)))
        losses = (1 - points / full) ** 2 if convex else random.random(points.size)
        curves.append((points, losses * random.uniform(0.5, 2)))
    matrix = np.where(random.random((rows, groups)) < 0.6, 4.0 ** random.integers(0, 4, (rows, groups)), 0.0)
    return curves, matrix


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 3),
    rows=st.integers(1, 5),
    step=st.sampled_from([1, 4, 8]),
    convex=st.booleans(),
    tightness=st.floats(0, 1),
)
def test_equals_brute_force_within_every_limit(
    seed: int, groups: int, rows: int, step: int, convex: bool, tightness: float
) -> None:
    curves, matrix = network(seed, groups, rows, convex)
    allowed = [allowed_widths(int(x[-1]), step, int(x[0])) for x, _ in curves]
    fixed = np.arange(rows) * 10.0
    least = matrix @ [float(w[0]) for w in allowed]
    most = matrix @ [float(w[-1]) for w in allowed]
    limits = fixed + least + tightness * (most - least)
    result = fit_widths(curves, matrix, limits, fixed=fixed, step=step)
    assert (fixed + matrix @ np.asarray(result.widths) <= limits).all()
    np.testing.assert_allclose(result.usage, fixed + matrix @ np.asarray(result.widths))
    assert all(width in widths for width, widths in zip(result.widths, allowed))
    best = min(
        sum(float(np.interp(w, *curve)) for w, curve in zip(choice, curves))
        for choice in itertools.product(*allowed)
        if (matrix @ np.asarray(choice, dtype=float) <= limits - fixed).all()
    )
    assert result.loss == pytest.approx(best, abs=1e-8)
    assert result.gap == 0


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), groups=st.integers(1, 3), rows=st.integers(1, 8))
def test_dropped_rows_are_implied_by_the_kept_ones(seed: int, groups: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    matrix, limits = random.integers(0, 4, (rows, groups)) * 1.0, random.integers(1, 20, rows) * 1.0
    kept = needed_rows(matrix, limits, [5] * groups)
    for point in itertools.product(range(6), repeat=groups):
        usage = matrix @ np.asarray(point, dtype=float)
        if (usage[kept] <= limits[kept]).all():
            assert (usage <= limits).all()


def test_equal_rows_leave_one() -> None:
    assert needed_rows(np.ones((4, 2)), np.array([9.0, 8.0, 8.0, 9.0]), [10, 10]).size == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_tighter_limit_never_loses_less(seed: int) -> None:
    curves, matrix = network(seed, 3, 4, convex=False)
    most = float((matrix @ [float(x[-1]) for x, _ in curves]).max())
    if most == 0:
        return
    least = float((matrix @ [float(np.ceil(x[0] / 4) * 4) for x, _ in curves]).max())
    losses = [fit_widths(curves, matrix, max(least, f * most), step=4).loss for f in (1.0, 0.8, 0.6)]
    assert losses == sorted(losses)


def test_the_full_width_is_allowed_though_it_is_no_multiple() -> None:
    assert allowed_widths(20, 8, 1).tolist() == [8, 16, 20]
    assert allowed_widths(5, 8, 1).tolist() == [5]
    curve = ([8, 20], [1.0, 0.0])
    assert fit_widths([curve], [[1.0]], 20.0).widths == (20,)
    assert fit_widths([curve], [[1.0]], 19.0).widths == (16,)


def test_an_impossible_limit_names_the_row_and_what_holds_it() -> None:
    with pytest.raises(InfeasibleBudget) as caught:
        fit_widths(
            [([8, 16], [1, 0]), ([8, 16], [1, 0])],
            [[1.0, 0.0], [2.0, 1.0]],
            [100.0, 30.0],
            fixed=[0.0, 10.0],
            group_names=["encoder", "decoder"],
            row_names=["at conv", "at cat"],
        )
    error = caught.value
    assert (error.budget, error.limit, error.minimum) == ("at cat", 30.0, 34.0)
    assert error.holders == (("encoder", 16.0), ("what no width changes", 10.0), ("decoder", 8.0))


@pytest.mark.parametrize(
    ("curves", "rows", "limits", "options", "message"),
    [
        ([([8, 16], [1, np.nan])], [[1]], 9, {}, "not a finite"),
        ([([8, 16], [1, 0])], [[1, 2]], 9, {}, "shape"),
        ([([8, 16], [1, 0])], [[-1]], 9, {}, "at least 0"),
        ([([8, 16], [1, 0])], [[1]], [9, 9], {}, "limits"),
        ([([8, 16], [1, 0])], [[1]], np.nan, {}, "must be numbers"),
        ([([8, 16], [1, 0])], [[1]], 16, {"minimum": [4], "step": 4}, "below the first measured"),
        ([([8, 16], [1, 0])], [[1]], 16, {"minimum": [17]}, "No width between"),
        ([([8, 16], [1, 0])], [[1]], 16, {"step": 0}, "No width between"),
        ([([8, 16], [1, 0])], [[1]], 16, {"step": [8, 8]}, "2 steps"),
    ],
)
def test_bad_input_is_a_clear_error(curves: list, rows: list, limits: float, options: dict, message: str) -> None:
    with pytest.raises(WithinError, match=message):
        fit_widths(curves, rows, limits, **options)
