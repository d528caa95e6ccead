"""The closed forms of one pruning round against the optimality conditions and a general solver."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from within.core.errors import WithinError
from within.core.solve import InfeasibleBudget, allocate

AMOUNT = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))


@st.composite
def rounds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    count = draw(st.integers(1, 8))
    lists = [draw(st.lists(AMOUNT, min_size=count, max_size=count)) for _ in range(2)]
    top = draw(st.lists(st.one_of(st.just(0.0), st.floats(0.05, 1)), min_size=count, max_size=count))
    s, c, maximum = (np.asarray(values) for values in (*lists, top))
    return s, c, draw(st.floats(0, 1)) * float(c @ maximum), maximum


@pytest.mark.parametrize("form", ["quadratic", "linear"])
@settings(max_examples=300, deadline=None)
@given(round_=rounds())
def test_the_optimality_conditions_hold(form: str, round_: tuple) -> None:
    s, c, required, top = round_
    result = allocate(s, c, required, top, form=form)
    r = np.asarray(result.fractions)
    assert result.kkt_residual < 1e-9
    assert (r >= 0).all()
    assert (r <= top).all()
    assert c @ r >= required * (1 - 1e-12) - 1e-300


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_general_solver_finds_less_loss(seed: int) -> None:
    """The residual is our own measure; SciPy's solvers know nothing of it."""
    random = np.random.default_rng(seed)
    s, c, top = random.random(5) + 0.1, random.random(5) + 0.1, random.uniform(0.2, 1, 5)
    required = random.uniform(0.1, 0.95) * float(c @ top)
    bounds = list(zip(np.zeros(5), top))
    linear = linprog(s, A_ub=[-c], b_ub=[-required], bounds=bounds)
    assert allocate(s, c, required, top, form="linear").loss == pytest.approx(linear.fun, abs=1e-9)
    constraint = {"type": "ineq", "fun": lambda r: c @ r - required, "jac": lambda r: c}
    square = minimize(
        lambda r: s @ r**2 / 2, top * 0.9, jac=lambda r: s * r, bounds=bounds, constraints=[constraint], tol=1e-12
    )
    assert allocate(s, c, required, top).loss <= square.fun + 1e-7


@settings(deadline=None)
@given(round_=rounds(), scale=st.floats(0.01, 100))
def test_the_unit_of_the_loss_does_not_matter(round_: tuple, scale: float) -> None:
    s, c, required, top = round_
    one, other = allocate(s, c, required, top), allocate(s * scale, c, required, top)
    np.testing.assert_allclose(one.fractions, other.fractions, atol=1e-9)


@settings(deadline=None)
@given(round_=rounds())
def test_asking_for_more_costs_more(round_: tuple) -> None:
    s, c, required, top = round_
    for form in ("quadratic", "linear"):
        assert allocate(s, c, required / 2, top, form=form).loss <= allocate(s, c, required, top, form=form).loss + 1e-9


def test_the_textbook_cases() -> None:
    quadratic = allocate([1.0, 4.0], [2.0, 2.0], 1.0)
    np.testing.assert_allclose(quadratic.fractions, [0.4, 0.1])  # r ~ c / s
    assert quadratic.multiplier == pytest.approx(0.2)
    np.testing.assert_allclose(allocate([1.0, 4.0], [2.0, 2.0], 3.0).fractions, [1.0, 0.5])  # one is used up
    np.testing.assert_allclose(allocate([1.0, 4.0], [2.0, 2.0], 3.0, form="linear").fractions, [1.0, 0.5])
    np.testing.assert_allclose(allocate([0.0, 4.0], [2.0, 2.0], 1.0).fractions, [0.5, 0.0])  # what is free goes first
    np.testing.assert_allclose(allocate([1.0, 1.0], [2.0, -1.0], 1.0).fractions, [0.5, 0.0])  # what frees nothing stays
    assert allocate([1.0], [2.0], -3.0).fractions == (0.0,)


@pytest.mark.parametrize("form", ["quadratic", "linear"])
def test_everything_may_be_asked_for_and_no_more(form: str) -> None:
    result = allocate([1.0, 2.0], [3.0, 4.0], 3.5, 0.5, form=form)
    np.testing.assert_allclose(result.fractions, 0.5)
    with pytest.raises(InfeasibleBudget) as caught:
        allocate([1.0, 2.0], [3.0, 4.0], 3.6, 0.5, form=form, group_names=["a", "b"])
    assert caught.value.holders == (("b", 2.0), ("a", 1.5))
    assert "at most 3.5" in str(caught.value)


@pytest.mark.parametrize(
    ("s", "c", "required", "top"),
    [
        ([1.0], [1.0, 2.0], 1, 1),
        ([-1.0], [1.0], 1, 1),
        ([np.nan], [1.0], 1, 1),
        ([1.0], [1.0], np.nan, 1),
        ([1.0], [1.0], 1, [1, 1]),
        ([], [], 1, 1),
    ],
)
def test_bad_input_is_a_clear_error(s: list, c: list, required: float, top: float) -> None:
    with pytest.raises(WithinError):
        allocate(s, c, required, top)
