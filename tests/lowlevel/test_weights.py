"""Published weights: every layout fits, nothing else does, and a file can never run code."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from within.core.errors import WithinError
from within.lowlevel.models import build, restore
from within.lowlevel.weights import identify, load_weights
from within.lowlevel.weights.matconvnet import read_matconvnet

REAL = {
    "carn_m": ("carn_m.safetensors", "nmhkahn/CARN-pytorch", 0),
    "dncnn_s": ("dncnn_s25_bn_saoyan.safetensors", "SaoYan/DnCNN-PyTorch", 0),
    "dncnn_merged": ("dncnn_25_bnmerged_kair.safetensors", "cszn/KAIR DnCNN, FFDNet", 0),
    "imdn_x4": ("imdn_x4.safetensors", "Zheng222/IMDN", 0),
    "n2n_unet": ("n2n_unet_gaussian_clean.safetensors", "joeylitalien/noise2noise-pytorch", 0),
}

# From the names here to those of a repository: written the other way round than the loader's tables, so that a slip in
# either shows.
PUBLISHED: dict[str, tuple[str, dict, Callable[[str], str]]] = {}


def published(layout: str, name: str, **overrides: object) -> Callable:
    def register(rename: Callable[[str], str]) -> Callable[[str], str]:
        PUBLISHED[layout] = (name, overrides, rename)
        return rename

    return register


def chain(name: str, *pairs: tuple[str, str]) -> str:
    for pattern, replacement in pairs:
        name = re.sub(pattern, replacement, name)
    return name


def plus_one(name: str, pattern: str, form: str) -> str:
    return re.sub(pattern, lambda match: form.format(int(match[1]) + 1), name)


@published("swz30/Restormer", "restormer", width=16, depths=(2, 1, 1, 1), refinement=1)
def _restormer(name: str) -> str:
    name = chain(name, (r"(norm\d)\.", r"\1.body."), (r"^patch_embed\.", "patch_embed.proj."))
    for level in range(3):
        name = chain(
            name,
            (rf"^(encoder|decoder)\.{level}\.", rf"\1_level{level + 1}."),
            (rf"^down\.{level}\.", f"down{level + 1}_{level + 2}.body."),
            (rf"^up\.{level}\.", f"up{level + 2}_{level + 1}.body."),
            (rf"^reduce\.{level}\.", f"reduce_chan_level{level + 1}."),
        )
    return name


@published("MegEngine/PMRID", "pmrid")
def _pmrid(name: str) -> str:
    return chain(
        name,
        (r"^head\.0", "conv0.conv"),
        (r"^encoder(\d)(.*)\.project\.", r"enc\1\2.proj."),
        (r"^encoder", "enc"),
        (r"^bottleneck", "encdec"),
        (r"^decoder(\d)\.project", r"dec\1.proj_conv"),
        (r"^decoder(\d)\.refine\.conv1", r"dec\1.decode_conv.conv0"),
        (r"^decoder(\d)\.refine\.conv2", r"dec\1.decode_conv.conv1"),
        (r"^decoder", "dec"),
        (r"^refine\.conv1", "out0.conv0"),
        (r"^refine\.conv2", "out0.conv1"),
        (r"^tail", "out1.conv"),
    )


@published("Li-Chongyi/Zero-DCE", "dce_net")
def _zero_dce(name: str) -> str:
    return "e_" + name


@published("junyanz/pytorch-CycleGAN-and-pix2pix, 9 blocks", "cyclegan_resnet9", width=4)
def _cyclegan(name: str) -> str:
    places = {"head.0": 1, "down.0.0": 4, "down.1.0": 7, "up.0.0": 19, "up.1.0": 22, "tail.0": 26}
    module, kind = name.rsplit(".", 1)
    if module in places:
        return f"model.{places[module]}.{kind}"
    _, block, convolution = module.split(".")
    return f"model.{10 + int(block)}.conv_block.{1 if convolution == 'conv1' else 5}.{kind}"


@published("Zheng222/IMDN IMDN_RTC, cszn/KAIR IMDN", "imdn_aim_x4", depth=3)
def _kair_imdn(name: str) -> str:
    return chain(
        name,
        (r"^head", "model.0"),
        (r"^tail", "model.1.sub.3"),
        (r"^upsample\.0", "model.2"),
        (r"^blocks\.(\d)\.conv([123])", r"model.1.sub.\1.conv\2.0"),
        (r"^blocks\.(\d)\.conv4", r"model.1.sub.\1.conv4"),
        (r"^blocks\.(\d)\.fuse", r"model.1.sub.\1.conv1x1"),
    )


@published("nmhkahn/CARN-pytorch", "carn", width=8)
def _carn(name: str) -> str:
    name = chain(
        name,
        (r"^(sub|add)\w*_mean\.", r"\1_mean.shifter."),
        (r"^head", "entry"),
        (r"^tail", "exit"),
        (r"^upsample\.(\d)\.", r"upsample.up\1.body."),
    )
    name = plus_one(name, r"^blocks\.(\d)", "b{}")
    name = plus_one(name, r"\.units\.(\d)", ".b{}")
    return plus_one(name, r"fuse\.(\d)", "c{}.body")


@published("sanghyun-son/EDSR-PyTorch", "edsr_baseline_x4", depth=3, width=8)
def _edsr(name: str) -> str:
    return chain(
        name,
        (r"^conv_first", "head.0"),
        (r"^body\.(\d)\.conv1", r"body.\1.body.0"),
        (r"^body\.(\d)\.conv2", r"body.\1.body.2"),
        (r"^conv_after_body", "body.3"),
        (r"^upsample", "tail.0"),
        (r"^conv_last", "tail.1"),
    )


@published("yulunzhang/RCAN", "rcan_x4", groups=2, depth=3, width=16)
def _rcan(name: str) -> str:
    return chain(
        name,
        (r"^conv_first", "head.0"),
        (r"^conv_after_body", "body.2"),
        (r"^body\.(\d)\.conv\.", r"body.\1.body.3."),
        (r"attention\.1", "conv_du.0"),
        (r"attention\.3", "conv_du.2"),
        (r"residual_group\.(\d)\.rcab", r"body.\1.body"),
        (r"^upsample", "tail.0"),
        (r"^conv_last", "tail.1"),
    )


@published("xinntao/ESRGAN, cszn/KAIR RRDB", "rrdbnet_x4", depth=2, width=8)
def _esrgan(name: str) -> str:
    return chain(
        name,
        (r"^body\.(\d)\.rdb", r"RRDB_trunk.\1.RDB"),
        (r"^conv_body", "trunk_conv"),
        (r"^conv_up", "upconv"),
        (r"^conv_hr", "HRconv"),
    )


@published("cszn/KAIR MSRResNet", "msrresnet_x4", depth=2, width=8)
def _kair_msrresnet(name: str) -> str:
    return chain(name, (r"^body", "recon_trunk"), (r"^conv_hr", "HRconv"))


@pytest.mark.parametrize("name", REAL)
def test_real_weights_load_strictly(data: Callable[[str], Path], name: str) -> None:
    """The published file of each network: names, order and shapes."""
    file, layout, merged = REAL[name]
    model = build(name)
    report = load_weights(model, data("lowlevel") / "weights" / file)
    assert (report.layout, report.merged_batch_norms) == (layout, merged)
    assert report.loaded == len([key for key in model.state_dict() if not key.endswith("num_batches_tracked")])
    assert not report.missing
    assert not report.unexpected


def test_real_batch_norm_merges(data: Callable[[str], Path]) -> None:
    """The published DnCNN-S computes the same with its 15 normalisations merged on loading."""
    path = data("lowlevel") / "weights" / "dncnn_s25_bn_saoyan.safetensors"
    separate, merged = build("dncnn_s").eval(), build("dncnn_merged").eval()
    load_weights(separate, path)
    assert load_weights(merged, path).merged_batch_norms == 15
    image = torch.rand(1, 1, 40, 32)
    torch.testing.assert_close(restore(merged, image), restore(separate, image), rtol=0, atol=1e-5)


def test_real_weights_are_identified(data: Callable[[str], Path]) -> None:
    weights = data("lowlevel") / "weights"
    assert identify(weights / "imdn_x4.safetensors") == ("imdn_x4",)
    assert identify(weights / "dncnn_s25_bn_saoyan.safetensors") == ("dncnn_s",)


@pytest.mark.parametrize("layout", PUBLISHED)
def test_published_layouts_fit_completely(layout: str) -> None:
    """A rename that is missing, or that sends two names to one."""
    name, overrides, rename = PUBLISHED[layout]
    original, model = build(name, **overrides), build(name, **overrides)
    state = {rename(key): value for key, value in original.state_dict().items()}
    assert len(state) == len(original.state_dict())
    report = load_weights(model, {"params": {f"module.{key}": value for key, value in state.items()}})
    assert report.layout == layout
    for key, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"params": state},
        lambda state: {"params": {}, "params_ema": state},
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    ],
)
def test_wrappers_and_prefixes_are_taken_off(tmp_path: Path, wrap: Callable[[dict], dict]) -> None:
    original, model = build("dncnn_s", depth=4), build("dncnn_s", depth=4)
    torch.save(wrap(dict(original.state_dict())), tmp_path / "weights.pth")
    load_weights(model, tmp_path / "weights.pth")
    assert all(torch.equal(model.state_dict()[key], value) for key, value in original.state_dict().items())


def test_the_named_wrapper_is_taken() -> None:
    """Averaged weights come first unless the caller names the plain ones."""
    plain, averaged, model = (build("dncnn_merged", depth=3) for _ in range(3))
    both = {"params": plain.state_dict(), "params_ema": averaged.state_dict()}
    load_weights(model, both)
    assert torch.equal(model.layers[0].weight, averaged.layers[0].weight)
    load_weights(model, both, wrapper="params")
    assert torch.equal(model.layers[0].weight, plain.layers[0].weight)
    with pytest.raises(WithinError, match="no entry 'netG'"):
        load_weights(model, both, wrapper="netG")


def randomise_norms(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, -2, 2),
                (module.bias, -1, 1),
                (module.running_mean, -1, 1),
                (module.running_var, 0.1, 3),
            ):
                tensor.data = low + (high - low) * torch.rand(tensor.shape, generator=generator)
    return model


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31 - 1), kair=st.booleans(), bias=st.booleans(), depth=st.integers(3, 5))
def test_merging_keeps_the_function(seed: int, kair: bool, bias: bool, depth: int) -> None:
    """Merged and separate agree for any statistics, KAIR's eps of 1e-4 and torch's of 1e-5."""
    torch.manual_seed(seed)
    original = randomise_norms(build("dncnn_s", depth=depth, width=6, bias=bias), seed).double().eval()
    for module in original.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-4 if kair else 1e-5
    prefix = "model." if kair else "dncnn."
    state = {key.replace("layers.", prefix): value for key, value in original.state_dict().items()}
    image = torch.rand(1, 1, 7, 9, dtype=torch.float64)
    expected = restore(original, image)
    merged = build("dncnn_merged", depth=depth, width=6).double().eval()
    separate = build("dncnn_s", depth=depth, width=6, bias=bias).double().eval()
    assert load_weights(merged, state).merged_batch_norms == depth - 2
    load_weights(separate, state)
    torch.testing.assert_close(restore(merged, image), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(restore(separate, image), expected, rtol=1e-6, atol=1e-6)


def test_merged_weights_do_not_go_into_separate_layers() -> None:
    with pytest.raises(WithinError, match=r"merged into the convolutions.*dncnn_merged"):
        load_weights(build("dncnn_s"), build("dncnn_merged").state_dict())


def test_old_instance_norm_statistics_are_dropped() -> None:
    """Files from before PyTorch 0.4 have running statistics where the network has no parameters at all."""
    name, overrides, rename = PUBLISHED["junyanz/pytorch-CycleGAN-and-pix2pix, 9 blocks"]
    original = build(name, **overrides)
    state = {rename(key): value for key, value in original.state_dict().items()}
    state |= {"model.2.running_mean": torch.zeros(4), "model.2.running_var": torch.ones(4)}
    state |= {"model.10.conv_block.2.running_mean": torch.zeros(16)}
    load_weights(build(name, **overrides), state)


def test_another_network_is_refused_with_names_and_shapes() -> None:
    """The error must let a user see what is wrong, name the right network, and leave the model alone."""
    model = build("imdn_x2")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WithinError) as caught:
        load_weights(model, build("imdn_x4").state_dict())
    message = str(caught.value)
    assert "90 of its 92 tensors fit" in message
    assert "2 of another shape: upsample.0.weight (file 48x64x3x3, network 12x64x3x3)" in message
    assert "they fit imdn_x4" in message
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    with pytest.raises(WithinError, match=r"12 missing: .* and 7 more; 92 unexpected: .* and 87 more"):
        load_weights(build("dncnn_merged", depth=6), build("imdn_x4").state_dict())


def test_not_strict_loads_what_fits_and_says_the_rest() -> None:
    model, other = build("imdn_x2"), build("imdn_x4")
    report = load_weights(model, {**other.state_dict(), "extra.weight": torch.ones(1)}, strict=False)
    assert report.loaded == 90
    assert report.mismatched == ("upsample.0.weight", "upsample.0.bias")
    assert report.unexpected == ("extra.weight",)
    assert torch.equal(model.head.weight, other.head.weight)
    with pytest.raises(WithinError, match="0 of its"):
        load_weights(build("dce_net"), other.state_dict(), strict=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_by_name(value: float) -> None:
    state = build("dncnn_merged").state_dict()
    state["layers.4.weight"][3, 2, 1, 0] = value
    with pytest.raises(WithinError, match=r"1 values .* of 36864 in layers\.4\.weight"):
        load_weights(build("dncnn_merged"), state)


def test_other_things_among_the_tensors_are_named() -> None:
    with pytest.raises(WithinError, match=r"other things than tensors: epoch.*wrapper"):
        load_weights(build("dce_net"), {**build("dce_net").state_dict(), "epoch": 3})
    with pytest.raises(WithinError, match="no tensors"):
        load_weights(build("dce_net"), {})


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_never_runs(tmp_path: Path, write: Callable) -> None:
    """Remote code execution by a downloaded checkpoint."""
    write({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "weights.pth")
    with pytest.raises(WithinError, match="could run code"):
        load_weights(build("dce_net"), tmp_path / "weights.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", ["safetensors", "torch", "legacy", "mat"])
@pytest.mark.parametrize("kept", [0.9, 0.3])
def test_a_cut_file_is_an_error_that_says_so(tmp_path: Path, kind: str, kept: float) -> None:
    state, path = build("dce_net").state_dict(), tmp_path / "weights"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "mat":
        path = tmp_path / "weights.mat"
        save_matconvnet(path, [(np.zeros((3, 3, 1, 4), np.float32), np.zeros(4, np.float32))], shuffled=False)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "torch")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WithinError, match="damaged"):
        load_weights(build("dce_net"), path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    model = build("dce_net", width=4)
    for content in (b"", b"hello, this is no file of weights"):
        (tmp_path / "weights").write_bytes(content)
        with pytest.raises(WithinError, match="not a file of weights"):
            load_weights(model, tmp_path / "weights")
    with pytest.raises(WithinError, match="no such file"):
        load_weights(model, tmp_path / "absent.pth")
    torch.jit.trace(nn.ReLU(), torch.rand(1)).save(str(tmp_path / "script.pt"))
    with pytest.raises(WithinError, match="TorchScript"):
        load_weights(model, tmp_path / "script.pt")


def save_matconvnet(path: Path, convolutions: list[tuple[np.ndarray, np.ndarray]], *, shuffled: bool) -> None:
    """Writes net.layers as MatConvNet does: a cell array of structures, filters as height x width x in x out."""
    layers: list[dict] = [{"type": "SubP", "scale": 0.5}, {"type": "concat"}] if shuffled else []
    for filters, biases in convolutions:
        weights = np.empty(2, dtype=object)
        weights[0], weights[1] = filters, biases.reshape(1, -1)
        layers += [{"type": "conv", "weights": weights}, {"type": "relu"}]
    layers.pop()
    layers += [{"type": "SubP", "scale": 2.0}] if shuffled else []
    cells = np.empty(len(layers), dtype=object)
    for index, layer in enumerate(layers):
        cells[index] = layer
    scipy.io.savemat(path, {"net": {"layers": cells}})


def columns_first(image: Tensor) -> Tensor:
    """Pixel-unshuffle in MatConvNet's order: for each channel the pixels (0,0) (1,0) (0,1) (1,1)."""
    parts = [
        image[:, c : c + 1, row::2, column::2] for c in range(image.shape[1]) for column in (0, 1) for row in (0, 1)
    ]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_matconvnet_weights_compute_the_same(tmp_path: Path, channels: int) -> None:
    """Axes or sub-pixels in the wrong order: the published row/column mix-up costs 2.5 dB and raises no error."""
    rng = np.random.default_rng(0)
    widths = [4 * channels + 1, 6, 6, 4 * channels]
    convolutions = [
        (rng.normal(size=(3, 3, before, after)).astype(np.float32), rng.normal(size=after).astype(np.float32))
        for before, after in pairwise(widths)
    ]
    save_matconvnet(tmp_path / "net.mat", convolutions, shuffled=True)
    model = build("ffdnet_gray", channels=channels, depth=3, width=6).eval()
    assert load_weights(model, tmp_path / "net.mat").layout == "MatConvNet"
    image, level = torch.rand(1, channels, 8, 10), torch.full((1, 1, 1, 1), 0.1)
    features = torch.cat((columns_first(image), level.expand(1, 1, 4, 5)), dim=1)
    for index, (filters, biases) in enumerate(convolutions):
        weight = torch.from_numpy(filters.transpose(3, 2, 0, 1).copy())
        features = F.conv2d(features if index == 0 else features.relu(), weight, torch.from_numpy(biases), padding=1)
    torch.testing.assert_close(columns_first(restore(model, image, level)), features, rtol=1e-4, atol=1e-4)


def test_matconvnet_gray_dncnn_keeps_its_axes(tmp_path: Path) -> None:
    """One input and one output channel: axes of length one that a reader may lose."""
    rng = np.random.default_rng(0)
    first, last = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 3, 1, 5), (3, 3, 5, 1)))
    save_matconvnet(tmp_path / "net.mat", [(first, np.zeros(5)), (last, np.zeros(1))], shuffled=False)
    state = read_matconvnet(tmp_path / "net.mat")
    np.testing.assert_array_equal(state["matconvnet.0.weight"], first.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(state["matconvnet.2.weight"], last.transpose(3, 2, 0, 1))


def test_newer_matlab_files_name_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "net.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(512))
    with pytest.raises(WithinError, match=r"within-lowlevel\[matlab\]"):
        load_weights(build("ffdnet_gray"), tmp_path / "net.mat")


def test_newer_matlab_files_are_read(tmp_path: Path) -> None:
    """HDF5 lists MATLAB's axes backwards and refers to every cell."""
    h5py = pytest.importorskip("h5py", reason="the optional h5py (within-lowlevel[matlab]) is not installed")
    filters, biases = np.random.default_rng(0).normal(size=(3, 3, 2, 5)).astype(np.float32), np.arange(5.0)
    with h5py.File(tmp_path / "net.mat", "w", userblock_size=512) as file:
        file["f"], file["b"] = filters.transpose(3, 2, 1, 0), biases[None]
        file["layer/type"] = np.array([[ord(letter)] for letter in "conv"], dtype=np.uint16)
        file["layer/weights"] = np.array([[file["f"].ref], [file["b"].ref]], dtype=h5py.ref_dtype)
        file["net/layers"] = np.array([[file["layer"].ref]], dtype=h5py.ref_dtype)
    with open(tmp_path / "net.mat", "r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64")
    state = read_matconvnet(tmp_path / "net.mat")
    np.testing.assert_array_equal(state["matconvnet.0.weight"], filters.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(state["matconvnet.0.bias"], biases)
