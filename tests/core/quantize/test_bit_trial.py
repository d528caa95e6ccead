"""Trying bits on a network: float is itself, grids are those of `quantize`, the correction restores moments."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from within.core import trace
from within.core.errors import WithinError
from within.core.quantize import QuantizationSettings, quantize
from within.core.quantize.bit_trial import BitTrial
from within.core.quantize.cost_table import mac_bits
from within.core.quantize.mixed_precision import measure_sensitivity

BITS = (2, 4, 8)
FLOAT = (-1, -1)


class Residual(nn.Module):
    """Three convolutions with batch norm, a shortcut, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.down, self.third = nn.Conv2d(8, 12, 3, stride=2, bias=False), nn.BatchNorm2d(12, affine=False)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(self.stem(x)))
        x = F.relu(x + self.second(self.inner(x)))
        return self.head(F.relu(self.third(self.down(x))).mean((2, 3)))


def case(seed: int = 0):
    """A network with statistics of its own, its table, and two batches of different sizes."""
    torch.manual_seed(seed)
    model = Residual()
    for norm in (model.first, model.second):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
    x = torch.randn(44, 3, 12, 12)
    for _ in range(20):
        model.train()(x + 0.1)
    model.eval()
    table = mac_bits(trace(model, (x[:1],)), weight_bits=BITS, activation_bits=BITS)
    return model, table, [x[:32], x[32:]]


@pytest.mark.parametrize("correct", [False, True])
def test_in_float_it_is_the_network_and_leaves_it_alone(correct):
    """Would catch quantisers that stay on, a correction that moves the float network, and a model that is changed."""
    model, table, batches = case()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial = BitTrial(model, (batches[0][:1],), table, batches, correct=correct)
    expected = torch.cat([model(batch) for batch in batches])
    trial([(2, 2)] * len(table))
    torch.testing.assert_close(trial([FLOAT] * len(table)), expected, rtol=1e-4, atol=1e-5)
    assert trial.divergence([FLOAT] * len(table)) == pytest.approx(0, abs=1e-8)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training


def test_without_correction_it_computes_what_quantize_builds():
    """Would catch a grid, a range or a layer that is not the one of the quantised network."""
    model, table, batches = case()
    trial = BitTrial(model, (batches[0][:1],), table, batches, correct=False)
    pairs = [(8, 8), (4, 8), (4, 4), (8, 4)]
    bits = dict(zip(table.layers, pairs, strict=True))
    settings = QuantizationSettings(bits=bits, join=False, correction="none")
    built = quantize(model, (batches[0][:1],), batches, settings).model
    expected = torch.cat([built(batch) for batch in batches])
    # `quantize` folds batch norm, and puts the layers' results on 8 bits, too: a tensor may fall on the next level.
    distance = (trial(pairs) - expected).norm() / expected.norm()
    others = [trial([*pairs[:layer], (2, 2), *pairs[layer + 1 :]]) for layer in range(4)]
    assert distance < 0.05 < 0.1 < min((other - expected).norm() / expected.norm() for other in others)


def test_the_correction_restores_the_moments_of_every_channel():
    """Would catch moments of another batch, a deviation without its mean, and a factor that is not bounded."""
    model, table, batches = case()
    seen: dict[str, list[Tensor]] = {}
    for correct, bits in ((False, FLOAT), (True, (4, 4)), (False, (4, 4))):
        trial = BitTrial(model, (batches[0][:1],), table, batches, correct=correct)
        norm = trial.module.third
        found: list[Tensor] = []
        handle = norm.register_forward_hook(lambda module, inputs, output, found=found: found.append(output))
        trial([bits] * len(table))
        handle.remove()
        seen[f"{correct} {bits[0]}"] = found
    for expected, corrected, plain in zip(seen["False -1"], seen["True 4"], seen["False 4"], strict=True):
        for moment in (lambda v: v.mean((0, 2, 3)), lambda v: v.std((0, 2, 3))):
            torch.testing.assert_close(moment(corrected), moment(expected), rtol=1e-3, atol=1e-3)
            assert (moment(plain) - moment(expected)).abs().max() > 0.02
    assert torch.isfinite(trial([(2, 2)] * len(table))).all()


def test_sensitivities_fall_with_bits_and_with_the_correction():
    """Would catch sensitivities of the wrong layer or operand, or a correction that is off while they are measured."""
    model, table, batches = case()
    measured = {
        correct: measure_sensitivity(
            BitTrial(model, (batches[0][:1],), table, batches, correct=correct).divergence, table
        )
        for correct in (False, True)
    }
    assert measured[True].shape == (4, 3, 3)
    assert (measured[True][:, 0, 0] > measured[True][:, 1, 1]).all()
    assert (measured[True][:, 1, 1] > measured[True][:, 2, 2]).all()
    assert (measured[True][:3, :, 2] != measured[False][:3, :, 2]).all()
    assert measured[True][:, 0, 2].sum() < measured[False][:, 0, 2].sum()


def test_wrong_bits_and_layers_are_refused():
    model, table, batches = case()
    trial = BitTrial(model, (batches[0][:1],), table, batches)
    with pytest.raises(WithinError, match="3 pairs of bits for 4 layers"):
        trial([FLOAT] * 3)
    with pytest.raises(WithinError, match="no ranges for 3 bits"):
        trial([(3, 8)] * 4)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(400, 5))
    with pytest.raises(WithinError, match="no layer named 'stem'"):
        BitTrial(other, (batches[0][:1],), table, batches)
    with pytest.raises(WithinError, match="A grid of 1 bits"):
        BitTrial(model, (batches[0][:1],), mac_bits(trace(model, (batches[0][:1],))), batches)
    with pytest.raises(WithinError, match="no calibration data"):
        BitTrial(model, (batches[0][:1],), table, [])
