"""The MLS format: what it can represent, how far it may be off, that it is right on average, and training in it."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from within.core.errors import WithinError
from within.core.quantize.mls import (
    MlsFormat,
    MlsSettings,
    MlsTensor,
    encode,
    low_bit_layers,
    quantise,
    restore,
    to_low_bit,
)
from within.core.train import fit

FORMATS = st.builds(
    MlsFormat,
    exponent=st.integers(0, 3),
    mantissa=st.integers(1, 4),
    group_mantissa=st.integers(0, 2),
    groups=st.sampled_from([(), (0,), (1,), (0, 1)]),
)


def noise(seed: int, *shape: int) -> torch.Tensor:
    """Normal numbers over several orders of magnitude, with a group of zeros."""
    generator = torch.Generator().manual_seed(seed)
    x = (
        torch.randn(shape, generator=generator)
        * torch.exp2(torch.randint(-12, 6, shape[:2], generator=generator))[(...,) + (None,) * (len(shape) - 2)]
    )
    x[-1, -1] = 0
    return x


def neighbours(x: torch.Tensor, tensor: MlsTensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the representable magnitudes below and above each element, in the unit of the tensor, in float64."""
    scale = (tensor.tensor_scale * tensor.group_scale).double()
    levels = torch.tensor(tensor.format.magnitudes(), dtype=torch.float64)
    relative = torch.where(scale > 0, x.abs() / scale, 0.0).clamp(max=1)
    above = torch.searchsorted(levels, relative).clamp(min=1)
    return levels[above - 1] * scale, levels[above] * scale


def test_the_magnitudes_are_those_of_the_formula():
    """Would catch a missing zero or one, an exponent range off by one, underflow that is not gradual."""
    assert MlsFormat(2, 1).magnitudes() == (0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
    assert MlsFormat(0, 2).magnitudes() == (0, 0.5, 1)
    assert MlsFormat(1, 2).magnitudes() == (0, 0.25, 0.5, 0.75, 1)
    for exponent, mantissa in itertools.product(range(1, 5), range(5)):
        found = MlsFormat(exponent, mantissa).magnitudes()
        assert len(found) == 2 ** (exponent + mantissa) - (2**mantissa - 1)  # codes above 1 are not needed
        assert (found[0], found[-1]) == (0, 1)


@settings(max_examples=60, deadline=None)
@given(form=FORMATS, seed=st.integers(0, 999), stochastic=st.booleans())
def test_elements_are_representable_and_within_one_step(form, seed, stochastic):
    """Would catch an element that is off the grid, above 1, of the wrong sign, or further away than its neighbours."""
    x = noise(seed, 3, 4, 5, 5)
    tensor = encode(x, form, stochastic=stochastic, generator=torch.Generator().manual_seed(seed))
    assert set(tensor.elements.abs().unique().tolist()) <= set(form.magnitudes())
    assert ((tensor.elements == 0) | (tensor.elements.sign() == x.sign())).all()
    scale = tensor.tensor_scale * tensor.group_scale
    assert (x.abs() <= scale * (1 + 1e-6)).all()
    below, above = neighbours(x, tensor)
    error = (tensor.value() - x).abs()
    assert (error <= (above - below) * (1.0 if stochastic else 0.5) + 2e-4 * scale).all()


@given(form=FORMATS, seed=st.integers(0, 999))
def test_group_scales_are_small_floats_rounded_up(form, seed):
    """Would catch scales rounded to nearest, which push elements above 1, or of more bits than stated."""
    x = noise(seed, 3, 4, 5, 5)
    tensor = encode(x, form)
    scale = tensor.group_scale[tensor.group_scale > 0]
    mantissa, _ = torch.frexp(scale)
    lines = mantissa * 2 ** (form.group_mantissa + 1)
    assert torch.equal(lines, lines.round())
    axes = form.axes(x.shape)
    largest = x.abs().amax(dim=[axis for axis in range(4) if axis not in axes], keepdim=True)
    relative = (largest / tensor.tensor_scale)[tensor.group_scale > 0]
    assert (scale >= relative).all()
    assert (scale <= relative * (1 + 2.0**-form.group_mantissa) * (1 + 1e-6)).all()
    assert tensor.tensor_scale == x.abs().max()
    assert tensor.group_scale.shape == tuple(size if axis in axes else 1 for axis, size in enumerate(x.shape))


@pytest.mark.parametrize("form", [MlsFormat(), MlsFormat(2, 4), MlsFormat(0, 3), MlsFormat(1, 1, groups=())], ids=str)
def test_stochastic_rounding_is_right_on_average(form):
    """Would catch rounding to nearest, clipping, or a probability that is not the distance."""
    x = noise(0, 4, 3, 6, 6)
    generator = torch.Generator().manual_seed(1)
    count = 2500
    mean = sum(quantise(x, form, generator=generator).double() for _ in range(count)) / count
    below, above = neighbours(x, encode(x, form))
    deviation = ((x.abs() - below) * (above - x.abs())).clamp(min=0).sqrt()  # of a choice between two, rightly weighted
    z = (mean - x) / torch.where(deviation > 1e-2 * (above - below), deviation / count**0.5, torch.inf)
    # 3 sigma for the average over all elements; of 432 single ones the largest may reach 4.5.
    assert abs(float(z.sum())) / z.numel() ** 0.5 < 3
    assert float(z.abs().max()) < 4.5
    assert float((mean - x).abs().max()) > 0  # it did round something


def test_the_noise_is_symmetric_uniform_and_fresh_for_every_element():
    """Would catch 16-bit draws that share words, a clipped or shifted range, and a tail that is not drawn."""
    x = torch.full((3, 7, 11, 101), 0.55)  # three elements in the last word of 64 bits; 0.2 of a step above 1/2
    x[..., 0] = 1  # makes the scale of every group
    drawn = quantise(x, MlsFormat(2, 1), generator=torch.Generator().manual_seed(0))[..., 1:]
    assert set(drawn.unique().tolist()) == {0.5, 0.75}
    up = (drawn == 0.75).double()
    sigma = (0.2 * 0.8 / up.numel()) ** 0.5
    assert abs(float(up.mean()) - 0.2) < 4 * sigma
    for shift in range(1, 9):  # neighbours do not follow one another
        centred = up.flatten() - 0.2
        assert abs(float((centred[shift:] * centred[:-shift]).mean())) < 5 * 0.16 / up.numel() ** 0.5


@settings(max_examples=60, deadline=None)
@given(form=FORMATS, seed=st.integers(0, 999))
def test_a_quantised_tensor_stays_what_it_is(form, seed):
    """Would catch float32's own rounding of the scales taken for a fraction of a step."""
    first = encode(noise(seed, 3, 4, 5, 5), form)
    again = encode(first.value(), scales=first, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(again.elements, first.elements)
    assert torch.equal(again.value(), first.value())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), exponent=st.integers(0, 3), mantissa=st.integers(1, 4))
def test_with_powers_of_two_as_group_scales_it_stays_so_under_fresh_scales(seed, exponent, mantissa):
    """Would catch a grid of narrower groups that is no refinement of the wider one."""
    form = MlsFormat(exponent, mantissa, group_mantissa=0)
    first = quantise(noise(seed, 3, 4, 5, 5), form)
    assert torch.equal(quantise(first, form), first)


@settings(max_examples=40, deadline=None)
@given(form=FORMATS, seed=st.integers(0, 999), power=st.integers(-40, 40))
def test_scaling_by_a_power_of_two_scales_the_result(form, seed, power):
    """Would catch absolute thresholds anywhere in the format."""
    x = noise(seed, 3, 4, 5, 5)
    plain, scaled = (quantise(v, form, generator=torch.Generator().manual_seed(3)) for v in (x, x * 2.0**power))
    assert torch.equal(plain * 2.0**power, scaled)


def test_zeros_stay_zero_and_cost_no_division():
    for shape in ((), (3,), (2, 3, 4, 4), (0, 3)):
        tensor = encode(torch.zeros(shape))
        assert torch.equal(tensor.value(), torch.zeros(shape))
        assert float(tensor.tensor_scale) == 0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused(wrong):
    x = torch.ones(2, 3, 4, 4)
    x[1, 1, 1, 1] = wrong
    with pytest.raises(WithinError, match="NaN" if wrong != wrong else "infinite"):
        quantise(x)
    with pytest.raises(WithinError, match="above the given scales"):
        encode(x, scales=encode(torch.ones(2, 3, 4, 4)))


@pytest.mark.parametrize(
    "wrong",
    [{"exponent": 0, "mantissa": 0}, {"exponent": 6}, {"mantissa": -1}, {"group_exponent": 0}, {"groups": (0, 0)}],
)
def test_formats_that_cannot_be_are_refused(wrong):
    with pytest.raises(WithinError):
        MlsFormat(**wrong)


def test_bits_are_counted_with_their_scales():
    assert encode(torch.ones(2, 3, 4, 4)).bits == 96 * 4 + 6 * 9 + 32
    assert encode(torch.ones(2, 3, 1, 1)).bits == 6 * 4 + 2 * 9 + 32  # a group of one element would be no group


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def test_the_products_use_quantised_operands_forward_and_backward():
    """Would catch a gradient that is computed from float operands, or an error that is quantised forward."""
    layer = nn.Conv2d(2, 3, 3)
    x, form = torch.randn(2, 2, 6, 6, requires_grad=True), MlsFormat(2, 1)
    nearest = lambda v: quantise(v, form, stochastic=False)  # noqa: E731
    qx, qw = nearest(x).requires_grad_(), nearest(layer.weight).requires_grad_()
    expected = F.conv2d(qx, qw)
    error = torch.randn_like(expected)
    expected.backward(nearest(error))
    to_low_bit(layer, MlsSettings(first_and_last=True))
    layer.eval()  # rounds to nearest
    output = layer(x)
    output.backward(error)
    assert torch.allclose(output, expected + layer.bias.view(-1, 1, 1), atol=1e-6)
    assert torch.allclose(x.grad, qx.grad, atol=1e-6)
    assert torch.allclose(layer.weight.grad, qw.grad, atol=1e-6)
    assert torch.allclose(layer.bias.grad, error.sum((0, 2, 3)), atol=1e-5)


def test_operands_without_a_format_stay_float():
    x = torch.randn(4, 2, 8, 8)
    plain, model = network(), network()
    to_low_bit(model, MlsSettings(None, None, None, first_and_last=True))
    assert torch.allclose(model(x), plain(x), atol=1e-6)


def test_a_model_is_restored_to_the_very_modules_it_was():
    """Would catch wrappers, renamed or copied parameters, and layers left low-bit."""
    model = network()
    modules, parameters = list(model), dict(model.named_parameters())
    expected = model(torch.ones(1, 2, 8, 8))
    every = MlsSettings(first_and_last=True)
    assert to_low_bit(model, every, keep_float=["0"]) == ("2", "4") == low_bit_layers(model)
    assert dict(model.named_parameters()).keys() == parameters.keys()
    assert copy.deepcopy(model).state_dict().keys() == model.state_dict().keys()
    assert not torch.equal(model(torch.ones(1, 2, 8, 8)), expected)
    assert restore(model) == ("2", "4")
    assert all(module is before for module, before in zip(model, modules, strict=True))
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert [type(module) for module in model] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.Flatten, nn.Linear]
    assert torch.equal(model(torch.ones(1, 2, 8, 8)), expected)


def test_models_and_names_that_do_not_fit_are_refused():
    with pytest.raises(WithinError, match="no convolution or linear layer named 'head'"):
        to_low_bit(network(), keep_float=["head"])
    with pytest.raises(WithinError, match="no convolution or linear layer to train"):
        to_low_bit(nn.ReLU())
    with pytest.raises(WithinError, match="first_and_last=True"):
        to_low_bit(nn.Sequential(nn.Conv2d(2, 2, 3), nn.Linear(2, 2)))


def test_the_first_and_the_last_layer_stay_float_unless_asked_for():
    """Would catch ends that are low-bit by default, and ends that stay so when the settings no longer say it."""
    model = network()
    assert to_low_bit(model, MlsSettings(first_and_last=True)) == ("0", "2", "4")
    assert to_low_bit(model) == ("2",) == low_bit_layers(model)
    assert [type(model[0]), type(model[4])] == [nn.Conv2d, nn.Linear]
    assert to_low_bit(model, MlsSettings.same(MlsFormat(2, 4), first_and_last=True), keep_float=["2"]) == ("0", "4")
    assert model[0].settings.weight == MlsFormat(2, 4)


def test_nan_names_the_layer_and_the_operand():
    """Would catch a diverging training that says only that some tensor is wrong."""
    model, x = network(), torch.ones(2, 2, 8, 8)
    to_low_bit(model, MlsSettings(first_and_last=True))
    with pytest.raises(WithinError, match="0: activation"):
        model(x * float("nan"))
    output = model(x)
    with pytest.raises(WithinError, match="4: error"):
        output.backward(torch.full_like(output, float("inf")))
    model[2].weight.data[0] = float("inf")
    with pytest.raises(WithinError, match="2: weight"):
        model(x)


def test_training_in_low_bits_learns_and_repeats_with_its_seed():
    """Would catch gradients that are lost, and rounding that the seed of the training does not decide."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (96,), generator=generator)
    inputs = torch.randn(96, 2, 8, 8, generator=generator) * 0.3
    inputs[:, 0] += target[:, None, None] - 1.0
    weights = []
    for _ in range(2):
        model = network()
        to_low_bit(model, MlsSettings(first_and_last=True))
        result = fit(
            model,
            (inputs, target),
            iterations=60,
            batch_size=32,
            loss=F.cross_entropy,
            optimizer={"type": "Adam", "lr": 0.01},
            log_every=10,
        )
        restore(model)
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(*weights)
    assert result.losses[-1][1] < 0.4 * result.losses[0][1]
    assert (model.eval()(inputs).argmax(1) == target).float().mean() > 0.9
