"""State dicts of NVIDIA's libraries are read and written where those libraries are not installed."""

from __future__ import annotations

import pytest
import torch

from within.core.errors import WithinError
from within.core.quantize.exchange import LayerRanges, modelopt, pytorch_quantization


@pytest.mark.parametrize(("exchange", "prefix"), [(pytorch_quantization, "_"), (modelopt, "")])
def test_round_trip(exchange, prefix):
    """Would catch an entry lost, renamed or changed between reading and writing."""
    state = {
        "conv.weight": torch.randn(4, 3, 3, 3),
        f"conv.{prefix}input_quantizer._amax": torch.tensor(2.0),
        f"conv.{prefix}weight_quantizer._amax": torch.rand(4, 1, 1, 1),
        "bn.num_batches_tracked": torch.tensor(7),
        f"pool.{prefix}input_quantizer._amax": torch.tensor(0.0),
        "residual_quantizer._amax": torch.tensor(1.5),
    }
    found = exchange.read(state)
    assert set(found.parameters) == {"conv.weight", "bn.num_batches_tracked"}
    assert set(found.layers) == {"conv", "pool"}
    assert found.layers["pool"].weight is None
    assert set(found.tensors) == {"residual_quantizer"}
    written = exchange.write(found)
    assert written.keys() == state.keys()
    assert all(written[key] is state[key] for key in state)


def test_scales():
    """Would catch 128 in place of 127, a scale of zero, or a channel lost where there is only one."""
    one, many = LayerRanges(torch.tensor(1.27), torch.tensor([[[2.54]]])).scales()
    assert float(one) == pytest.approx(0.01)
    assert many.tolist() == pytest.approx([0.02])
    none, four_bits = LayerRanges(None, torch.tensor([[7.0], [0.0]])).scales(bits=4)
    assert none is None
    assert four_bits.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("exchange", [pytorch_quantization, modelopt])
def test_a_state_without_ranges_is_refused(exchange):
    """Would catch a model taken as quantised that was never calibrated."""
    with pytest.raises(WithinError, match="calibrate the model"):
        exchange.read({"conv.weight": torch.ones(1)})
