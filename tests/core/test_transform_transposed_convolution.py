"""Transposed convolutions as ordinary ones, for every geometry that PyTorch takes."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.core.networks import Function, seeded
from tests.core.transform_cases import assert_same, images
from torch import nn

from within.core.transform import channels_last, transposed_convolution
from within.core.transform.editable import editable, kind

PAIR = st.tuples(st.integers(1, 5), st.integers(1, 5))


def rewritten(layer: nn.Module, size: tuple[int, int], *, last: bool = False) -> int:
    """Transposed convolutions left after rewriting all that may be; outputs are checked."""
    channels = layer.in_channels
    model, inputs = seeded(Function(lambda m, x: m.up(x), up=layer)), images((channels, *size))
    module = channels_last(model, inputs) if last else editable(model, inputs)
    module = editable(module, inputs)
    names = [node.name for node in module.graph.nodes if kind(node) == "conv_transpose2d"]
    module = transposed_convolution(module, inputs, sites=names)
    assert_same(module, model, inputs)
    assert_same(module, model, images((channels, size[0] + 1, size[1] + 2), seed=5))
    return sum(kind(node) == "conv_transpose2d" for node in module.graph.nodes)


@settings(max_examples=20, deadline=None)
@example(  # one position of the stride has no output
    kernel=(1, 4), stride=(1, 2), padding=(0, 2), grown=(0, 1), groups=1, size=(1, 1), bias=False, last=False
)
@given(
    kernel=PAIR,
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    grown=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    groups=st.sampled_from([1, 2, 4]),
    size=PAIR,
    bias=st.booleans(),
    last=st.booleans(),
)
def test_every_geometry(kernel, stride, padding, grown, groups, size, bias, last) -> None:
    """Would catch a phase that begins at the wrong tap, or rows beyond the last that are forgotten."""
    assume(max(stride) > 1 and all(k >= s for k, s in zip(kernel, stride)))
    assume(all(g < s for g, s in zip(grown, stride)))
    assume(all((n - 1) * s - 2 * p + k + g > 0 for n, s, p, k, g in zip(size, stride, padding, kernel, grown)))
    layer = nn.ConvTranspose2d(4, 4, kernel, stride, padding, grown, groups, bias)
    assert rewritten(layer, size, last=last) == 0


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(2, 3, 3, stride=2, dilation=2),
        nn.ConvTranspose2d(2, 3, 2, stride=3),
        nn.ConvTranspose2d(2, 3, 3, stride=1),
    ],
)
def test_where_it_is_not_applied(layer: nn.Module) -> None:
    """Dilated kernels, kernels smaller than the stride, and stride 1 are never proposed."""
    model, inputs = seeded(Function(lambda m, x: m.up(x), up=layer)), images((2, 6, 5))
    module = transposed_convolution(model, inputs)
    assert sum(kind(node) == "conv_transpose2d" for node in module.graph.nodes) == 1
    assert_same(module, model, inputs)
