"""Folding of batch normalisation: exact where it is legal, and left alone where it is not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.core.networks import Function, conv, seeded
from tests.core.transform_cases import assert_same, case, images
from torch import nn

from within.core.transform import batch_norm_folding


def folded(function, size: tuple[int, ...] = (4, 9, 7), **modules: nn.Module) -> int:
    """How many normalisations are left; outputs are checked."""
    model, inputs = seeded(Function(function, **modules)), images(size)
    module = batch_norm_folding(model, inputs)
    assert_same(module, model, inputs)
    assert_same(model, seeded(Function(function, **modules)), inputs, 0)
    return sum(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


@pytest.mark.parametrize(
    "layer",
    [
        conv(4, 6),
        conv(4, 6, bias=False),
        conv(4, 6, groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
    ],
)
def test_after_a_layer(layer: nn.Module) -> None:
    """Would catch a scale along the wrong axis of a grouped or transposed weight."""
    assert folded(lambda m, x: F.relu(m.norm(m.layer(x))), layer=layer, norm=nn.BatchNorm2d(6)) == 0
    assert folded(lambda m, x: m.norm(m.layer(x)), layer=layer, norm=nn.BatchNorm2d(6, affine=False)) == 0


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, 3, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, groups=4),
    ],
)
def test_before_a_layer_that_does_not_pad(layer: nn.Module) -> None:
    """Would catch a shift that is summed over the wrong group."""
    assert folded(lambda m, x: m.layer(m.norm(x)), layer=layer, norm=nn.BatchNorm2d(4)) == 0


def test_linear_layers() -> None:
    """Vectors fold; where the axis of the normalisation is not the layer's, nothing does."""
    layers = {"a": nn.Linear(4 * 6, 5), "norm": nn.BatchNorm1d(5), "b": nn.Linear(5, 3)}
    assert folded(lambda m, x: m.b(m.norm(m.a(x.flatten(1)))), size=(4, 3, 2), **layers) == 0
    axes = {"a": nn.Linear(6, 4), "norm": nn.BatchNorm1d(4)}
    assert folded(lambda m, x: m.norm(m.a(x.flatten(2))), size=(4, 3, 2), **axes) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.b(m.norm(F.relu(m.a(x)))),  # before zero padding: a shift is no zero
        lambda m, x: (lambda y: m.norm(y) + y)(m.a(x)),  # what comes before is read by another
        lambda m, x: m.norm(m.a(x)) + m.a(F.relu(x)),  # the weight is shared by a call without normalisation
        lambda m, x: m.norm(m.a(x)) + m.other(m.a(F.relu(x))),  # or with another one
        lambda m, x: m.norm(m.a(x)) * m.a.weight.mean(),  # the weight is read elsewhere
        lambda m, x: m.norm(F.conv2d(x, m.a.weight * 2, padding=1)),  # it is computed
        lambda m, x: m.a(m.free(x)),  # statistics of each image
    ],
)
def test_where_folding_would_be_wrong(function) -> None:
    """Would catch any of these folded."""
    parts = {"a": conv(4, 4), "b": conv(4, 4), "norm": nn.BatchNorm2d(4), "other": nn.BatchNorm2d(4)}
    folded(function, free=nn.InstanceNorm2d(4), **parts)


def test_shared_layers_fold_once() -> None:
    """Three calls of one convolution and one normalisation stay one weight."""
    model, inputs = case("shared")
    module = batch_norm_folding(model, inputs)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in model.parameters()) - 2 * 5
    assert_same(module, model, inputs)


def test_statistics_of_the_batch_are_not_folded() -> None:
    """Normalisation without running statistics computes them from each image."""
    norm = nn.BatchNorm2d(6, track_running_stats=False)
    model, inputs = seeded(Function(lambda m, x: m.norm(m.a(x)), a=conv(4, 6), norm=norm)), images((4, 9, 7))
    module = batch_norm_folding(model, inputs)
    assert_same(module, model, inputs)
    assert_same(module, model, tuple(torch.cat([item, 2 * item]) for item in inputs))
