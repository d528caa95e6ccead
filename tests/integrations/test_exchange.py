"""Models of NVIDIA's libraries come in and go out: strict loading into their own modules, and equal outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from within.core import load, save
from within.core.errors import WithinError
from within.core.quantize import export_quantized, quantize
from within.core.quantize.exchange import (
    LayerRanges,
    RangedState,
    modelopt,
    pytorch_quantization,
    quantized_from,
    ranges_of,
)

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]


class Net(nn.Module):
    """A convolution, a transposed one, a pooling and a linear layer of the given classes."""

    def __init__(self, conv: type, transposed: type, pool: type, linear: type, between: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.up = transposed(6, 4, 2, 2)
        self.pool = pool(4)
        self.between = between
        self.head = linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.pool(self.up(self.stem(x)).relu())).flatten(1))


def images(seed: int) -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def plain_net() -> Net:
    torch.manual_seed(0)
    return Net(nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.Linear, nn.Identity()).eval()


def pytorch_quantization_net(calibrated: bool, source: Callable[[], Net] = plain_net) -> Net:
    """Returns a network of the modules of pytorch-quantization with our parameters; one quantiser stands alone."""
    library = pytest.importorskip("pytorch_quantization.nn")
    from absl import logging

    logging.set_verbosity(logging.FATAL)
    alone = library.TensorQuantizer(library.QuantConv2d.default_quant_desc_input)
    net = Net(library.QuantConv2d, library.QuantConvTranspose2d, library.QuantMaxPool2d, library.QuantLinear, alone)
    if isinstance(source().stem[1], nn.Identity):
        net.stem[1] = nn.Identity()
    net.load_state_dict(source().state_dict())
    quantisers = [module for module in net.modules() if isinstance(module, library.TensorQuantizer)]
    if calibrated:
        for quantiser in quantisers:
            quantiser.enable_calib()
            quantiser.disable_quant()
        net.eval()(images(1))
        for quantiser in quantisers:
            quantiser.load_calib_amax()
            quantiser.disable_calib()
            quantiser.enable_quant()
    return net.eval()


def modelopt_net(calibrated: bool, source: Callable[[], Net] = plain_net) -> nn.Module:
    """Returns our network after Model Optimizer's quantize."""
    library = pytest.importorskip("modelopt.torch.quantization")
    configuration = copy.deepcopy(library.INT8_DEFAULT_CFG)
    loop: Callable | None = (lambda model: model(images(1))) if calibrated else None
    return library.quantize(source(), configuration, loop).eval()


LIBRARIES = {
    "pytorch_quantization": (pytorch_quantization, pytorch_quantization_net),
    "modelopt": (modelopt, modelopt_net),
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_state_comes_in_as_parameters_and_ranges(library):
    """Would catch a quantiser's entry left among the parameters, or a range given to the wrong layer."""
    exchange, build = library
    found = exchange.read(build(calibrated=True).state_dict())
    plain = plain_net()
    plain.load_state_dict(found.parameters)  # strict
    assert {"stem.0", "up", "pool", "head"} <= found.layers.keys()
    assert found.layers["pool"].weight is None
    for name, layer in (("stem.0", plain.stem[0]), ("head", plain.head)):
        axes = tuple(range(1, layer.weight.dim()))
        assert torch.equal(found.layers[name].weight, layer.weight.detach().abs().amax(axes, keepdim=True))
    largest = images(1).abs().max()
    assert torch.equal(found.layers["stem.0"].input.reshape(()), largest)
    input_scale, weight_scale = found.layers["stem.0"].scales()
    assert float(input_scale) == pytest.approx(float(largest) / 127)
    assert weight_scale.shape == (6,)


def test_state_goes_out_and_gives_equal_outputs(library):
    """Would catch an entry lost or renamed on the way: the library's own modules load it strictly."""
    exchange, build = library
    calibrated = build(calibrated=True)
    state = exchange.write(exchange.read(calibrated.state_dict()))
    assert same(state, calibrated.state_dict())
    fresh = build(calibrated=False)
    exchange.load(fresh, state)
    with torch.no_grad():
        assert torch.equal(fresh(images(2)), calibrated(images(2)))
        assert not torch.equal(fresh(images(2)), plain_net()(images(2)))
    again = build(calibrated=True)
    again.load_state_dict(state, strict=True)  # by itself, where the buffers exist


def test_a_range_means_what_we_say_it_means(library):
    """Would catch another grid behind the same number: the layer is computed here from its ranges alone."""
    exchange, build = library
    net = build(calibrated=True)
    found = exchange.read(net.state_dict())
    ranges = found.layers["head"]
    x = torch.randn(10, 64, generator=torch.Generator().manual_seed(3))

    def on_grid(values: Tensor, amax: Tensor) -> Tensor:
        return (values * 127 / amax).round().clamp(-128, 127) * amax / 127

    weight, bias = found.parameters["head.weight"], found.parameters["head.bias"]
    expected = nn.functional.linear(on_grid(x, ranges.input), on_grid(weight, ranges.weight), bias)
    with torch.no_grad():
        assert torch.allclose(net.head(x), expected, rtol=1e-4, atol=1e-5)


def test_from_one_library_to_the_other():
    """Would catch a layout that only reads what it wrote itself."""
    source = pytorch_quantization_net(calibrated=True)
    found = pytorch_quantization.read(source.state_dict())
    assert set(found.tensors) == {"between"}  # Model Optimizer has no quantiser that stands alone
    target = modelopt_net(calibrated=False)
    modelopt.load(target, modelopt.write(RangedState(found.parameters, found.layers, {})))
    source.between.disable()
    with torch.no_grad():
        assert torch.allclose(target(images(2)), source(images(2)), rtol=1e-4, atol=1e-5)


def test_ranges_of_ours_go_out(library):
    """Would catch a library that needs more than parameters and ranges."""
    exchange, build = library
    net = build(calibrated=True)
    found = exchange.read(net.state_dict())
    wider = {
        name: LayerRanges(None if ranges.input is None else 2 * ranges.input, ranges.weight)
        for name, ranges in found.layers.items()
    }
    fresh = build(calibrated=False)
    exchange.load(fresh, exchange.write(RangedState(found.parameters, wider, found.tensors)))
    with torch.no_grad():
        assert not torch.equal(fresh(images(2)), net(images(2)))


def test_states_that_do_not_fit_are_refused(library):
    """Would catch a model left half loaded without a word."""
    exchange, build = library
    state = exchange.write(exchange.read(build(calibrated=True).state_dict()))
    with pytest.raises(WithinError, match="no range"):
        exchange.read(plain_net().state_dict())
    with pytest.raises(WithinError, match="no quantiser"):
        exchange.load(plain_net(), state)
    missing = {key: value for key, value in state.items() if key != "head.weight"}
    with pytest.raises(WithinError, match=r"head\.weight"):
        exchange.load(build(calibrated=False), missing)
    key = next(key for key in state if key.endswith("_amax"))
    for bad in (float("nan"), -1.0, float("inf")):
        with pytest.raises(WithinError, match=key.replace(".", r"\.")):
            exchange.read({**state, key: torch.full_like(state[key], bad)})


@pytest.mark.parametrize(
    ("exchange", "entry"),
    [
        (pytorch_quantization, "head._input_quantizer.clip.clip_value_max"),
        (modelopt, "head.input_quantizer._pre_quant_scale"),
        (modelopt, "head.weight_quantizer._scale"),
    ],
)
def test_what_a_range_cannot_say_is_refused(exchange, entry):
    """Would catch a model that loads and computes something else."""
    with pytest.raises(WithinError, match=entry.replace(".", r"\.")):
        exchange.read({entry: torch.ones(())})


def normalised_net() -> Net:
    """Returns the plain network with a batch normalisation that has something to fold, one factor negative."""
    net = plain_net()
    norm = net.stem[1]
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-0.5, 1.5, 6))
        norm.bias.copy_(torch.linspace(-0.2, 0.3, 6))
        norm.running_mean.copy_(torch.linspace(-0.1, 0.1, 6))
        norm.running_var.copy_(torch.linspace(0.5, 2.0, 6))
    return net


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_model_of_the_library_becomes_ours_and_computes_the_same(name, tmp_path):
    """Would catch a range on the wrong tensor, a grid one step off, and a fold that moves the integers of a weight."""
    exchange, build = LIBRARIES[name]
    theirs = build(calibrated=True, source=normalised_net)
    state = exchange.read(theirs.state_dict())
    if state.tensors:  # the quantiser that the network calls by itself is left out on both sides
        theirs.between = nn.Identity()
    result = quantized_from(normalised_net(), (images(2),), state, ignore=list(state.tensors))
    with torch.no_grad():
        expected, obtained = theirs(images(2)), result.model(images(2))
        by_quantisation = (expected - normalised_net()(images(2))).abs().max()
    assert (expected - obtained).abs().max() < 0.02 * by_quantisation
    assert {reader for readers in result.quantized.activations.values() for reader in readers} >= {"stem.0", "head"}
    exported = export_quantized(result.model, (images(2),), tmp_path / "model.onnx", check=[(images(3),)])
    assert exported.units <= 1
    assert exported.integer_operators
    save(result, tmp_path / "run")
    assert torch.equal(load(tmp_path / "run", normalised_net).eval()(images(3)), result.model(images(3)))


@pytest.mark.parametrize("name", LIBRARIES)
def test_ours_goes_out_as_a_model_of_the_library(name):
    """Would catch a scale written for another grid, or a bias or fold lost on the way out."""
    exchange, build = LIBRARIES[name]

    def folded() -> Net:
        net = plain_net()
        net.stem[1] = nn.Identity()
        return net

    settings = {"target": "tensorrt", "correction": "none", "join": False}
    ours = quantize(folded(), (images(1),), [images(1)], settings)
    theirs = build(calibrated=False, source=folded)
    theirs.between = nn.Identity()
    exchange.load(theirs, exchange.write(ranges_of(ours.model)))
    for path, module in theirs.named_modules():  # what ours leaves in floating point
        if path.startswith("pool.") and hasattr(module, "disable"):
            module.disable()
    with torch.no_grad():
        expected, obtained = ours.model(images(2)), theirs(images(2))
        by_quantisation = (obtained - folded()(images(2))).abs().max()
    assert (expected - obtained).abs().max() < 0.5 * by_quantisation


def test_ranges_without_a_place_are_refused():
    """Would catch a range dropped in silence, and parameters of another network."""
    parameters = plain_net().state_dict()
    with pytest.raises(WithinError, match="does not compute"):
        quantized_from(
            plain_net(), (images(0),), RangedState(parameters, {"gone": LayerRanges(torch.ones(()), None)}, {})
        )
    with pytest.raises(WithinError, match="by itself"):
        quantized_from(plain_net(), (images(0),), RangedState(parameters, {}, {"between": torch.ones(())}))
    with pytest.raises(WithinError, match="do not fit"):
        quantized_from(plain_net(), (images(0),), RangedState({}, {}, {}))
    unsigned = quantize(plain_net(), (images(0),), [images(0)])
    with pytest.raises(WithinError, match="zero point"):
        ranges_of(unsigned.model)
