"""Transposed convolutions as ordinary ones, for every geometry that PyTorch takes."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.core.networks import Function, seeded
from tests.core.transform_cases import assert_same, images
from torch import nn

from within.core.transform import channels_last, transposed_convolution
from within.core.transform.editable import editable, kind


def rewritten(layer: nn.Module, size: tuple[int, int], *, last: bool = False) -> int:
    """Transposed convolutions left after rewriting all that may be; outputs are checked."""
    channels = layer.in_channels
    model, inputs = seeded(Function(lambda m, x: m.up(x), up=layer)), images((channels, *size))
    module = channels_last(model, inputs) if last else editable(model, inputs)
    module = editable(module, inputs)
    names = [node.name for node in module.graph.nodes if kind(node) == "conv_transpose2d" and max(layer.stride) > 1]
    module = transposed_convolution(module, inputs, sites=names)
    assert_same(module, model, inputs)
    assert_same(module, model, images((channels, size[0] + 1, size[1] + 2), seed=5))
    return sum(kind(node) == "conv_transpose2d" for node in module.graph.nodes)


@st.composite
def axis(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Kernel, stride, padding, output padding and size of one axis, with at least one output."""
    stride = draw(st.integers(1, 3))
    kernel, grown = draw(st.integers(stride, 5)), draw(st.integers(0, stride - 1))
    size = draw(st.integers(1, 5))
    padding = draw(st.integers(0, min(2, ((size - 1) * stride + kernel + grown - 1) // 2)))
    return kernel, stride, padding, grown, size


@settings(max_examples=20, deadline=None)
@example(height=(1, 1, 0, 0, 1), width=(4, 2, 2, 1, 1), groups=1, bias=False, last=False)  # no output at odd columns
@given(height=axis(), width=axis(), groups=st.sampled_from([1, 2, 4]), bias=st.booleans(), last=st.booleans())
def test_every_geometry(height, width, groups, bias, last) -> None:
    """Would catch a phase that begins at the wrong tap, or rows beyond the last that are forgotten."""
    kernel, stride, padding, grown, size = zip(height, width, strict=True)
    layer = nn.ConvTranspose2d(4, 4, kernel, stride, padding, grown, groups, bias)
    assert rewritten(layer, size, last=last) == 0 or stride == (1, 1)


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
