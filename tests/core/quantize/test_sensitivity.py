"""Sensitivity of single layers: fewer bits cost more, a layer that stays in floating point costs nothing."""

from __future__ import annotations

import pytest
from tests.core.quantize.test_quantize import batches, network

from within.core.errors import WithinError
from within.core.quantize import quantize
from within.core.quantize.sensitivity import layer_sensitivities
from within.core.report.bar_chart import bar_chart


def test_fewer_bits_of_one_layer_cost_more_there_and_nowhere_else():
    """Would catch quantisers left on or off, and an error that is charged to another layer."""
    found = {}
    for bits in (8, 3):
        settings = {"bits": {"second": (bits, bits)}, "correction": "none", "keep_float": ["gate"]}
        result = quantize(network(), (batches()[0],), batches(2), settings)
        states = [part.enabled for part in result.model.modules() if hasattr(part, "enabled")]
        found[bits] = {each.layer: each for each in layer_sensitivities(result.quantized, batches(2))}
        assert [part.enabled for part in result.model.modules() if hasattr(part, "enabled")] == states
    assert set(found[8]) == {"first", "second", "head"}
    assert found[3]["second"].error > 20 * found[8]["second"].error > 0
    assert found[3]["second"].weight_bits == 3
    assert found[3]["head"].error == pytest.approx(found[8]["head"].error, rel=0.2)  # biases lie on a coarser grid
    with pytest.raises(WithinError, match="no data"):
        layer_sensitivities(result.quantized, [])


def test_the_chart_has_a_longer_bar_for_a_larger_value():
    """Would catch bars in another order than their labels, and a chart of zeros that fails."""
    pixels = bar_chart(["small", "large"], [1e-6, 1e-2], "error", "caption").pixels
    blue = (pixels[..., 2].astype(int) - pixels[..., 0] > 60).sum(axis=1)
    lengths = blue[blue > 0]
    assert lengths[-1] > 2 * lengths[0] > 0
    assert bar_chart(["a"], [0.0], "error", "caption").pixels.shape[2] == 3
    assert bar_chart([], [], "error", "caption").pixels.size
