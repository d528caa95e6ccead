"""The frustum loss: what is right costs nothing, half a turn costs nothing, and gradients are exact."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.perception3d.pvcnn.frustum import HEADINGS, SIZES, FrustumNetwork, FrustumOutput, heading_of
from within.perception3d.pvcnn.frustum_loss import (
    CORNER_WEIGHT,
    FrustumTarget,
    box_corners,
    frustum_loss,
    frustum_losses,
    heading_bins,
    huber,
)

TEMPLATES = torch.tensor(list(SIZES.values()))


def perfect(target: FrustumTarget) -> FrustumOutput:
    bins, residual = heading_bins(target.heading)
    rows = torch.arange(len(bins))
    headings, residuals = torch.zeros(len(bins), HEADINGS), torch.zeros(len(bins), HEADINGS)
    sizes, scales = torch.zeros(len(bins), len(SIZES)), torch.zeros(len(bins), len(SIZES), 3)
    headings[rows, bins], residuals[rows, bins], sizes[rows, target.template] = 50, residual, 50
    scales[rows, target.template] = target.size / TEMPLATES[target.template] - 1
    mask = 50 * torch.stack([1 - target.mask, target.mask], dim=1).float()
    return FrustumOutput(mask, target.centre, target.centre, headings, residuals, sizes, scales)


def some_target(seed: int = 0, batch: int = 5) -> FrustumTarget:
    generator = torch.Generator().manual_seed(seed)
    template = torch.randint(0, len(SIZES), (batch,), generator=generator)
    return FrustumTarget(
        torch.randint(0, 2, (batch, 16), generator=generator),
        10 * torch.rand(batch, 3, generator=generator),
        20 * torch.rand(batch, generator=generator) - 10,
        TEMPLATES[template] * (0.8 + 0.4 * torch.rand(batch, 3, generator=generator)),
        template,
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_the_truth_costs_nothing_and_is_decoded_again(seed):
    target = some_target(seed)
    output = perfect(target)
    assert float(frustum_loss(output, target, TEMPLATES)) < 1e-3
    boxes = FrustumNetwork("pointnet", width=0.125).boxes(output)
    torch.testing.assert_close(boxes[:, :6], torch.cat([target.centre, target.size], dim=1))
    torch.testing.assert_close((boxes[:, 6] - target.heading).cos(), torch.ones(len(boxes)))


@settings(max_examples=50, deadline=None)
@given(st.floats(-20, 20))
def test_bins_and_residuals_are_the_heading(heading):
    bins, residual = heading_bins(torch.tensor([heading], dtype=torch.float64))
    assert 0 <= int(bins) < HEADINGS
    assert float(residual.abs()) <= 1 + 1e-9
    assert math.cos(float(heading_of(bins, residual)) - heading) == pytest.approx(1)


def test_half_a_turn_has_the_same_corners():
    target = some_target()
    output = perfect(target)
    turned = target._replace(heading=target.heading + math.pi)
    bins, _ = heading_bins(turned.heading)
    rows = torch.arange(len(bins))
    output.heading_residuals[rows, bins] = heading_bins(turned.heading)[1]
    assert float(frustum_losses(output, turned, TEMPLATES)["loss_corners"]) < 1e-3


def test_corners_are_those_of_the_labels_of_kitti():
    """At heading 0 the length lies along x; a quarter turn brings it to -z (Geiger et al., the benchmark's readme)."""
    centre, size = torch.zeros(2, 3), torch.tensor([[4.0, 2.0, 1.0]]).expand(2, 3)
    corners = box_corners(centre, size, torch.tensor([0.0, math.pi / 2]))
    torch.testing.assert_close(corners.amax(1), torch.tensor([[2.0, 0.5, 1.0], [1.0, 0.5, 2.0]]))
    torch.testing.assert_close(corners[1, 0], torch.tensor([1.0, 0.5, -2.0]))


def test_huber_is_quadratic_and_then_linear():
    torch.testing.assert_close(huber(torch.tensor([1.0])), torch.tensor(0.5))
    torch.testing.assert_close(huber(torch.tensor([-5.0]), 2.0), torch.tensor(2.0 * 5 - 2.0))


def test_the_published_sum():
    """Every residual wrong by a known amount: would catch a lost weight."""
    target = some_target(batch=1)
    output = perfect(target)
    shift = torch.tensor([[0.5, 0.0, 0.0]])
    moved = FrustumOutput(
        output.mask, output.coarse_centre, output.centre + shift, output.heading_scores, output.heading_residuals,
        output.size_scores, output.size_residuals,
    )  # fmt: skip
    terms = frustum_losses(moved, target, TEMPLATES)
    assert float(terms["loss_centre"]) == pytest.approx(0.125, rel=1e-4)
    assert float(terms["loss_corners"]) == pytest.approx(CORNER_WEIGHT * 0.125, rel=1e-3)
    assert float(terms["loss_coarse_centre"]) < 1e-6


def test_gradients_in_double_precision():
    target = some_target(batch=2)
    target = FrustumTarget(*(each.double() if each.is_floating_point() else each for each in target))
    sizes = (2, 3), (2, 3), (2, HEADINGS), (2, HEADINGS), (2, len(SIZES)), (2, len(SIZES), 3)
    torch.manual_seed(0)
    values = [torch.randn(2, 2, 16, dtype=torch.float64), *(torch.randn(size, dtype=torch.float64) for size in sizes)]
    inputs = tuple(value.requires_grad_() for value in values)
    assert torch.autograd.gradcheck(
        lambda *given: frustum_loss(FrustumOutput(*given), target, TEMPLATES.double()), inputs, fast_mode=True
    )
