"""Uniform grids: bounds of the error, zero, agreement of integers and simulation, gradients, bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.quantize.grid import Grid, from_integers, range_of, rounded, scales_of, to_integers

GRIDS = st.builds(
    lambda bits, kind, axis: Grid(bits, symmetric=kind == "symmetric", signed=kind != "unsigned", axis=axis),
    st.integers(2, 8),
    st.sampled_from(["symmetric", "signed", "unsigned"]),
    st.sampled_from([None, 0, 1]),
)


def values(seed: int, offset: float = 0.0) -> torch.Tensor:
    return torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(seed)) * 3 + offset


@settings(max_examples=60, deadline=None)
@given(GRIDS, st.integers(0, 99), st.floats(-5, 5))
def test_every_value_in_range_moves_by_half_a_step_at_most(grid, seed, offset):
    """Would catch a scale that does not cover the range, a zero point off by one, and a wrong axis."""
    x = values(seed, offset)
    scale, zero_point = scales_of(*range_of(x, grid), grid)
    step = scale if grid.axis is None else scale.view([-1 if place == grid.axis else 1 for place in range(3)])
    # the zero point is whole, so one end of an affine range may lie up to half a step outside
    allowed = 0.5 if grid.symmetric else 1.0
    assert bool(((rounded(x, scale, zero_point, grid) - x).abs() <= allowed * step * 1.0001).all())
    assert bool((rounded(torch.zeros_like(x), scale, zero_point, grid) == 0).all())


@settings(max_examples=40, deadline=None)
@given(GRIDS, st.integers(0, 99), st.floats(-5, 5))
def test_integers_and_simulation_agree(grid, seed, offset):
    """Would catch integers of the file that stand for other values than were trained with."""
    x = values(seed, offset)
    scale, zero_point = scales_of(*range_of(x, grid), grid)
    integers = to_integers(x, scale, zero_point, grid)
    assert grid.lowest <= int(integers.min())
    assert int(integers.max()) <= grid.highest
    simulated = rounded(x, scale, zero_point, grid)
    torch.testing.assert_close(from_integers(integers, scale, zero_point, grid), simulated, rtol=0, atol=0)
    again = rounded(rounded(x, scale, zero_point, grid), scale, zero_point, grid)
    torch.testing.assert_close(again, simulated, rtol=0, atol=0)


def test_groups_have_scales_of_their_own():
    """Would catch groups that run across output channels."""
    grid = Grid(4, axis=0, group_size=3)
    x = torch.tensor([[1.0, 2.0, 7.0, 70.0, 10.0, 20.0], [0.0, 0.0, 0.0, -14.0, 2.0, 4.0]])
    low, high = range_of(x, grid)
    scale, zero_point = scales_of(low, high, grid)
    torch.testing.assert_close(scale, torch.tensor([[1.0, 10.0], [1.0, 2.0]]))
    torch.testing.assert_close(rounded(x, scale, zero_point, grid), x)
    with pytest.raises(WithinError, match="do not divide"):
        range_of(x, Grid(4, axis=0, group_size=4))


def test_halves_round_to_even():
    """Would catch rounding away from zero, which differs from every runtime."""
    one = torch.ones(())
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    found = rounded(x, one, torch.zeros((), dtype=torch.int32), Grid(8))
    assert found.tolist() == [0.0, 2.0, 2.0, 0.0, -2.0]


@pytest.mark.parametrize("group_size", [None, 5])
def test_gradients_pass_inside_the_range_only(group_size):
    """Would catch a gradient that clips nothing, or that rounding stops."""
    grid = Grid(4, axis=0, group_size=group_size)
    x = torch.tensor([[-9.0, -3.2, 0.1, 6.9, 12.0]], requires_grad=True)
    scale = torch.ones(1) if group_size is None else torch.ones(1, 1)
    rounded(x, scale, torch.zeros_like(scale, dtype=torch.int32), grid).sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 1.0, 1.0, 0.0]]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.booleans(), st.integers(0, 99), st.floats(0.2, 1.5))
def test_gradients_are_those_of_torch(bits, symmetric, seed, part):
    """Would catch a gradient that is cut a step too early or too late, where the range clips values."""
    grid = Grid(bits, symmetric=symmetric, signed=symmetric)
    x = values(seed).requires_grad_()
    scale, zero_point = scales_of(part * x.detach().amin(), part * x.detach().amax(), grid)
    weights = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))
    (ours,) = torch.autograd.grad((weights * rounded(x, scale, zero_point, grid)).sum(), x)
    theirs = torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero_point), grid.lowest, grid.highest)
    (expected,) = torch.autograd.grad((weights * theirs).sum(), x)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


def test_a_range_of_zero_has_the_scale_one():
    """Would catch a division by zero that turns a dead channel into NaN."""
    for grid in (Grid(8), Grid(8, symmetric=False, signed=False)):
        scale, zero_point = scales_of(torch.zeros(2), torch.zeros(2), grid)
        assert scale.tolist() == [1.0, 1.0]
        assert zero_point.tolist() == [0, 0]


def test_bad_grids_and_ranges_are_refused():
    """Would catch bits out of range, NaN and emptiness that surface later as wrong numbers."""
    for wrong in (lambda: Grid(1), lambda: Grid(9), lambda: Grid(8, signed=False), lambda: Grid(8, group_size=2)):
        with pytest.raises(WithinError):
            wrong()
    with pytest.raises(WithinError, match="NaN"):
        scales_of(torch.tensor(float("nan")), torch.tensor(1.0), Grid())
    with pytest.raises(WithinError, match="empty"):
        range_of(torch.zeros(0, 3), Grid())
