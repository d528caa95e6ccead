"""Post-training quantisation of whole networks: where quantisers go, how far answers move, and bad calibration."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from within.core import load, save
from within.core.errors import WithinError
from within.core.quantize import QuantizationSettings, quantize
from within.core.quantize.integer import integer_forward
from within.core.train import freeze_batch_norm


class Residual(nn.Module):
    """Convolution, batch normalisation, a skip, a gate that no integer kernel computes, pooling, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8 * 16, 5)

    def forward(self, x):
        y = F.relu(self.norm(self.first(x)))
        y = F.relu(self.second(y) + y)
        y = y * torch.sigmoid(self.gate(y))
        return self.head(F.max_pool2d(y, 2).flatten(1))


def network(seed: int = 0) -> nn.Module:
    """Returns the network with statistics that are not those of a fresh one."""
    torch.manual_seed(seed)
    model = Residual()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.3, 3)
        model.norm.weight.uniform_(0.5, 2)
        model.norm.bias.normal_()
    return model.eval()


def batches(count: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 3, 8, 8, generator=generator) for _ in range(count)]


def relative_error(model: nn.Module, settings: dict) -> float:
    data = batches()
    result = quantize(model, (data[0][:1],), data[:3], QuantizationSettings(**settings))
    with torch.no_grad():
        expected = model(data[3])
        return float((result.model(data[3]) - expected).norm() / expected.norm())


def test_more_bits_come_closer():
    """Would catch bits that are not used, scales that are off, and a simulation that does not round at all."""
    errors = [relative_error(network(), {"weight_bits": bits, "activation_bits": bits}) for bits in (3, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < 0.02
    assert errors[0] > 0.1
    assert relative_error(network(), {"activation_bits": None}) < errors[-1] + 0.01


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_places(target):
    """Would catch a ReLU cut off from its layer, an operator passed over in silence, a tensor quantised twice."""
    result = quantize(network(), (batches()[0],), batches(1), {"target": target})
    assert {item.kind for item in result.left} == {"sigmoid", "mul"}
    assert all(item.reason for item in result.left)
    found = list(result.quantized.activations.values())
    assert result.quantized.activations["activation_quantizers.x"] == ("first",)
    assert ("head",) in found  # through pooling and flattening
    assert sorted(layer for readers in result.quantized.weights.values() for layer in readers) == [
        "first", "gate", "head", "second",
    ]  # fmt: skip
    for name in result.quantized.activations:
        quantizer = result.model.get_submodule(name)
        assert int(quantizer.zero_point) == 0 or target == "cpu"
    relu = [name for name in result.quantized.activations if "relu" in name]
    assert len(relu) == 2
    assert not any("conv" in name and "second" in name for name in result.quantized.activations)


class Joined(nn.Module):
    """A sum of what is computed in floating point; a convolution reads the sum, or something in floating point."""

    def __init__(self, read_by_layer: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.last = nn.Conv2d(4, 2, 1)
        self.read_by_layer = read_by_layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.sigmoid(self.first(x)) + torch.sigmoid(self.second(x))
        return self.last(total if self.read_by_layer else torch.sigmoid(total))


@pytest.mark.parametrize("read_by_layer", [True, False])
def test_a_sum_among_floats_stays_in_float(read_by_layer):
    """Would catch integer islands: rounding for nothing, and operators that OpenVINO cannot run."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4)
    result = quantize(Joined(read_by_layer).eval(), (x,), [x], {})
    left = {item.kind: item.reason for item in result.left}
    assert ("add" in left) is not read_by_layer
    assert read_by_layer or "in float" in left["add"]


def test_patterns_and_bits_of_single_layers():
    """Would catch a pattern that matches nothing, or bits given to another layer."""
    result = quantize(network(), (batches()[0],), batches(1), {"keep_float": ["head"], "bits": {"second": (4, 6)}})
    assert ("head", "linear", "named in keep_float") in {(item.name, item.kind, item.reason) for item in result.left}
    bits = {readers: result.model.get_submodule(path).grid.bits for path, readers in result.quantized.weights.items()}
    assert bits == {("first",): 8, ("second",): 4, ("gate",): 8}
    inputs = {
        readers: result.model.get_submodule(path).grid.bits for path, readers in result.quantized.activations.items()
    }
    assert inputs[("second",)] == 6
    for wrong in ({"keep_float": ["hed"]}, {"bits": {"hed": (4, 4)}}, {"target": "gpu"}, {"correction": "magic"}):
        with pytest.raises(WithinError):
            quantize(network(), (batches()[0],), batches(1), wrong)


@pytest.mark.parametrize("method", ["means", "moments"])
def test_correction_restores_the_statistics(method):
    """Would catch a correction of the wrong sign, or one that layers behind do not see."""
    data = batches(8)
    plain = {"weight_bits": 3, "activation_bits": None, "correction": "none"}
    errors = {}
    for name, settings in (("none", plain), (method, plain | {"correction": method})):
        result = quantize(network(), (data[0],), data[:6], settings)
        with torch.no_grad():
            difference = torch.cat([result.model(batch) - network()(batch) for batch in data[:6]])
        errors[name] = float(difference.mean(0).norm())
    assert errors[method] < 1e-3 * errors["none"]


def test_integers_give_what_the_simulation_gives():
    """Would catch a simulation that no integer kernel can compute: a bias off its grid, a padded zero off zero."""
    result = quantize(network(), (batches()[0],), batches(3))
    for batch in batches(3):
        with torch.no_grad():
            simulated = result.model(batch)
        exact = integer_forward(result.model, batch)
        output = next(node for node in result.model.graph.nodes if node.op == "output").args[0]
        step = float(result.model.get_submodule(str(output.target)).scale)
        gap = (simulated - exact).abs() / step
        assert float(gap.max()) < 1.01
        assert float((gap > 0.5).float().mean()) < 0.05


def test_a_saved_model_is_rebuilt(tmp_path):
    """Would catch scales that are not part of the state, or a plan that places quantisers elsewhere."""
    result = quantize(network(), (batches()[0],), batches(2), {"correction": "moments", "bits": {"gate": (4, 8)}})
    save(result, tmp_path / "run")
    again = load(tmp_path / "run", Residual)
    x = batches(3)[2]
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(x), result.model.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("learned", ["none", "step", "clip"])
def test_training_brings_the_answer_closer(learned):
    """Would catch gradients that rounding stops, scales that do not learn, and weights that leave their grid."""
    data = batches(4)
    model = network()
    settings = {"weight_bits": 3, "activation_bits": 4, "learned": learned, "correction": "none"}
    result = quantize(model, (data[0],), data, settings)
    student = result.model
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)

    def loss() -> torch.Tensor:
        return sum(F.mse_loss(student(batch), model(batch).detach()) for batch in data)

    with torch.no_grad():
        before = float(loss())
    student.train()
    freeze_batch_norm(student)
    for _ in range(30):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    student.eval()
    with torch.no_grad():
        assert float(loss()) < (0.8 if learned == "none" else 0.6) * before
    if learned != "none":
        names = {
            name.rpartition(".")[2] for name, parameter in student.named_parameters() if parameter.grad is not None
        }
        assert {"step": "scale", "clip": "alpha"}[learned] in names


def test_bad_calibration_is_refused():
    """Would catch calibration that is forgotten, empty, or poisoned, and a place that is not named."""
    x = batches()[0]
    with pytest.raises(WithinError, match="no calibration data"):
        quantize(network(), (x,))
    with pytest.raises(WithinError, match="batch 1 holds NaN"):
        quantize(network(), (x,), [x, torch.full_like(x, float("nan"))])
    with pytest.raises(WithinError, match="holds a str"):
        quantize(network(), (x,), ["no tensor"])
    broken = network()
    with torch.no_grad():
        broken.second.weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(WithinError):
        quantize(broken, (x,), [x])


def test_constant_calibration_keeps_zero():
    """Would catch a tensor of zero range that becomes NaN."""
    x = torch.zeros(2, 3, 8, 8)
    result = quantize(network(), (x,), [x])
    with torch.no_grad():
        assert bool(torch.isfinite(result.model(x)).all())
