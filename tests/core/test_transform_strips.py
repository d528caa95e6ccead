"""Bands of rows: the same result at any height, less memory, more operators."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.networks import Function, conv, seeded
from tests.core.transform_cases import assert_same, counted, images, predicted
from torch import nn

from within.core.errors import WithinError
from within.core.transform import channels_last, strips
from within.core.transform.editable import editable


def head(kernels: list[int], dilation: int = 1) -> nn.Module:
    """Wide layers at full resolution between narrow ends, with normalisation, a gate and a residual."""

    def function(m, x):
        y = x
        for index in range(len(kernels)):
            y = F.leaky_relu(m.get_submodule(f"conv{index}")(y), 0.1)
        return m.last(m.norm(y)) * y.mean((2, 3), keepdim=True)[:, :2] + x[:, :2]

    layers = {}
    for index, kernel in enumerate(kernels):
        around = dilation * (kernel // 2)
        layers[f"conv{index}"] = nn.Conv2d(3 if not index else 8, 8, kernel, padding=around, dilation=dilation)
    return seeded(Function(function, norm=nn.BatchNorm2d(8), last=conv(8, 2), **layers))


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kernels=st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=3),
    dilation=st.integers(1, 2),
    bands=st.integers(2, 5),
    height=st.integers(20, 41),
    other=st.integers(3, 30),
    last=st.booleans(),
)
def test_the_same_at_any_height(kernels, dilation, bands, height, other, last) -> None:
    """Would catch rows that saw the padding inside the image; also at heights lower than a band and its halo."""
    model, inputs = head(kernels, dilation), images((3, height, 9))
    module = channels_last(model, inputs) if last else editable(model, inputs)
    module = strips(module, inputs, bands=bands)
    assert_same(module, model, inputs)
    assert counted(module, inputs) == predicted(module, inputs)
    assert_same(module, model, images((3, other, 12), seed=4))


def test_bands_take_less() -> None:
    """Two maps of 16 channels become two bands of them, and the output."""
    model = seeded(
        Function(lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))))), a=conv(3, 16), b=conv(16, 16), c=conv(16, 1))
    )
    inputs = images((3, 64, 8))
    peaks = [counted(strips(model, inputs, bands=bands), inputs) for bands in (2, 4, 8)]
    assert counted(editable(model, inputs), inputs) > peaks[0] > peaks[1] > peaks[2]


def test_what_is_no_band() -> None:
    """Would catch an unclear error, and regions around operators that read all rows."""
    model, inputs = head([3, 3]), images((3, 24, 9))
    with pytest.raises(WithinError, match="make no strips"):
        strips(model, inputs, bands=1)
    with pytest.raises(WithinError, match="no node named"):
        strips(model, inputs, sites=["nowhere"])
    attention = seeded(Function(lambda m, x: m.b(F.softmax(m.a(x), 2)), a=conv(3, 8), b=conv(8, 1)))
    assert_same(strips(attention, inputs), attention, inputs)
