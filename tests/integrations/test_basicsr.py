"""BasicSR and this project agree: networks, option files, metrics and databases; each can use the other's networks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from within.core.cli import main
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.pruning import load, prune, save
from within.lowlevel.basicsr import arch_registry, build_basicsr, register
from within.lowlevel.basicsr_training import settings_from_options
from within.lowlevel.data import FolderImages, LmdbImages, read_image, write_image, write_lmdb
from within.lowlevel.data.sample_images import sample_image
from within.lowlevel.evaluations import evaluate_file
from within.lowlevel.metrics import psnr, ssim
from within.lowlevel.models import build, restore
from within.lowlevel.options import read_options
from within.lowlevel.tiles import plan, run_tiled
from within.lowlevel.weights import load_weights

pytestmark = pytest.mark.integration

# BasicSR's architecture and its arguments; our variant and its arguments.
PAIRS = {
    "EDSR x2": ("EDSR", {"num_block": 16, "upscale": 2}, "edsr_baseline_x2", {}),
    "EDSR x3, small": (
        "EDSR", {"num_block": 2, "upscale": 3, "num_feat": 16}, "edsr_baseline_x3", {"depth": 2, "width": 16},
    ),
    "EDSR x4": ("EDSR", {}, "edsr_baseline_x4", {}),
    "EDSR-L x4, shallow": (
        "EDSR", {"num_feat": 256, "num_block": 2, "res_scale": 0.1}, "edsr_large_x4", {"depth": 2},
    ),
    "MSRResNet x2": ("MSRResNet", {"upscale": 2}, "msrresnet_x2", {}),
    "MSRResNet x3": ("MSRResNet", {"upscale": 3}, "msrresnet_x3", {}),
    "MSRResNet x4": ("MSRResNet", {}, "msrresnet_x4", {}),
    "RRDBNet x4": ("RRDBNet", {"num_block": 3}, "rrdbnet_x4", {"depth": 3}),
    "RRDBNet x2": ("RRDBNet", {"num_block": 2, "scale": 2}, "rrdbnet_x2", {"depth": 2}),
    "RCAN x4": ("RCAN", {"num_group": 2, "num_block": 3}, "rcan_x4", {"groups": 2, "depth": 3}),
}  # fmt: skip

OPTIONS = """
name: edsr_from_basicsr
model_type: SRModel
scale: 2
num_gpu: 0
manual_seed: 10
datasets:
  train:
    name: train
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    filename_tmpl: '{{}}'
    io_backend: {{type: disk}}
    gt_size: 32
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 4
    dataset_enlarge_ratio: 1
  val:
    name: Validation
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    io_backend: {{type: disk}}
network_g:
  type: EDSR
  num_in_ch: 3
  num_out_ch: 3
  num_feat: 16
  num_block: 3
  upscale: 2
  res_scale: 0.1
  img_range: 255.
  rgb_mean: [0.4488, 0.4371, 0.4040]
path:
  pretrain_network_g: {folder}/weights.safetensors
  strict_load_g: true
train:
  ema_decay: 0.999
  optim_g: {{type: Adam, lr: !!float 1e-4, weight_decay: 0, betas: [0.9, 0.99]}}
  scheduler: {{type: MultiStepLR, milestones: [200], gamma: 0.5}}
  total_iter: 300
  warmup_iter: -1
  pixel_opt: {{type: L1Loss, loss_weight: 1.0, reduction: mean}}
val:
  val_freq: !!float 5e3
  save_img: false
  metrics:
    psnr: {{type: calculate_psnr, crop_border: 2, test_y_channel: true}}
    ssim: {{type: calculate_ssim, crop_border: 2, test_y_channel: false}}
logger: {{print_freq: 100, save_checkpoint_freq: !!float 5e3, use_tb_logger: false}}
"""


def photographs(data) -> list[np.ndarray]:
    """Returns the five photographs of Set5 as RGB arrays."""
    source = FolderImages(data("lowlevel") / "Set5" / "HR")
    assert len(source.sizes) == 5
    return [source.read(name) for name in sorted(source.sizes)]


@pytest.mark.parametrize("case", PAIRS)
def test_same_weights_same_output(case):
    """Would catch a layer, an order or a constant that differs from BasicSR's network of that name."""
    theirs_name, theirs_arguments, ours_name, ours_arguments = PAIRS[case]
    torch.manual_seed(0)
    theirs = build_basicsr(theirs_name, **theirs_arguments).eval()
    ours = build(ours_name, **ours_arguments).eval()
    assert load_weights(ours, theirs.state_dict()).missing == ()
    image = torch.rand(1, 3, 24, 20)
    with torch.no_grad():
        difference = float((ours(image) - theirs(image)).abs().max())
    assert difference <= 1e-6
    assert (theirs.scale, theirs.size_multiple) == (ours.scale, ours.size_multiple)


def test_option_file_builds_the_same_network(tmp_path):
    """Would catch an argument of an option file that is lost or means something else here."""
    import yaml
    from basicsr.archs import build_network

    path = tmp_path / "edsr.yml"
    path.write_text(OPTIONS.format(folder=tmp_path))
    config = settings_from_options(read_options(path))
    torch.manual_seed(0)
    theirs = build_network(yaml.safe_load(path.read_text())["network_g"]).eval()
    ours = build(config["network"], **config["arguments"]).eval()
    load_weights(ours, theirs.state_dict())
    image = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        assert float((ours(image) - theirs(image)).abs().max()) <= 1e-6
    assert (config["iterations"], config["batch_size"], config["ema"]) == (300, 4, 0.999)
    assert config["optimizer"] == {"type": "Adam", "lr": 1e-4, "weight_decay": 0.0, "betas": (0.9, 0.99)}


def test_option_file_is_evaluated_as_basicsr_does(tmp_path, data):
    """Would catch another border, channel or rounding than BasicSR's validation has."""
    from basicsr.metrics import calculate_psnr, calculate_ssim
    from basicsr.utils import tensor2img

    model = build_basicsr("EDSR", num_feat=16, num_block=3, upscale=2, res_scale=0.1).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    folder = data("lowlevel") / "Set5"
    for kind, source in (("gt", folder / "HR"), ("lq", folder / "LR_x2")):
        for name in ("bird", "butterfly"):
            found = next(path for path in sorted(source.iterdir()) if path.stem.lower().startswith(name))
            write_image(tmp_path / kind / f"{name}.png", read_image(found))
    path = tmp_path / "edsr.yml"
    path.write_text(OPTIONS.format(folder=tmp_path))
    (result,) = evaluate_file(path).values()
    for name, values in result.images.items():
        stem = name.removesuffix(".png")
        gt, lq = (read_image(tmp_path / kind / f"{stem}.png") for kind in ("gt", "lq"))
        image = torch.from_numpy(lq.astype(np.float32).transpose(2, 0, 1) / 255)[None]
        with torch.no_grad():
            restored = tensor2img(model(image), rgb2bgr=True)
        bgr = np.ascontiguousarray(gt[: restored.shape[0], : restored.shape[1], ::-1])
        assert values[0] == pytest.approx(calculate_psnr(restored, bgr, 2, test_y_channel=True), abs=1e-5)
        assert values[1] == pytest.approx(calculate_ssim(restored, bgr, 2), abs=1e-5)


def test_basicsr_network_is_pruned_to_half_its_widths(tmp_path):
    """Would catch an architecture of BasicSR that traces and is cut wrongly, or cannot be saved and loaded."""
    torch.manual_seed(0)
    model, inputs = build_basicsr("EDSR").eval(), (torch.rand(1, 3, 32, 32),)
    result = prune(model, inputs, widths=0.5)
    assert result.certificate.masked_slim_error < 1e-5
    groups = {group.name: group.size for group in result.graph.channel_groups()}
    assert all(result.widths[name] == size // 2 for name, size in groups.items())
    assert trace(model, inputs).unsupported == ()
    save(result, tmp_path / "half")
    loaded = load(tmp_path / "half", lambda: build_basicsr("EDSR")).eval()
    with torch.no_grad():
        assert torch.equal(loaded(*inputs), result.model.eval()(*inputs))


def test_basicsr_network_is_compressed_from_end_to_end(tmp_path, capsys):
    """Would catch a job that knows our own networks only: fitted, fine-tuned, measured, evaluated and exported."""
    torch.manual_seed(0)
    arguments = {"num_feat": 16, "num_block": 2, "upscale": 2}
    save_file(build_basicsr("EDSR", **arguments).state_dict(), tmp_path / "edsr.safetensors")
    for name in ("camera", "chelsea"):
        write_image(tmp_path / "photographs" / f"{name}.png", sample_image(name)[:64, :64].repeat(3, 2)[..., :3])
    options = [f"--set=arguments.{key}={value}" for key, value in arguments.items()]
    options += ["--set=fine_tuning.iterations=2", "--set=fine_tuning.patch_size=16", "--set=calibration=8"]
    photographs = tmp_path / "photographs"
    code = main([
        "lowlevel", "compress", "-n", "basicsr:EDSR", "-w", str(tmp_path / "edsr.safetensors"), "--data",
        str(photographs), "--test", str(photographs), "--size", "48x48", "--fraction", "0.7", "--run",
        str(tmp_path / "run"), "--set=runtime=None", "--set=step=1", *options, "--json",
    ])  # fmt: skip
    assert code == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics["budgets"][0]["achieved"] <= metrics["budgets"][0]["limit"]
    assert main(["lowlevel", "eval", "-w", str(tmp_path / "run"), "--data", str(photographs), "--json"]) == 0
    assert main(["lowlevel", "export", str(tmp_path / "run"), str(tmp_path / "edsr.onnx"), "--json"]) == 0


def test_basicsr_network_runs_in_tiles():
    """Would catch tiles that rely on attributes only our own networks have."""
    model = build_basicsr("RRDBNet", num_block=1, num_feat=16, num_grow_ch=8, scale=2).eval()
    image = torch.rand(1, 3, 101, 90)
    cut = plan(model, 0.8 * plan(model, 2**50, 101, 90).peak_bytes, 101, 90)
    assert cut.rows * cut.columns > 1
    assert float((run_tiled(model, image, cut) - restore(model, image)).abs().max()) <= 1e-5


def test_our_networks_build_through_its_registry():
    """Would catch a registration that fails twice, loses an argument, or builds another network."""
    from basicsr.archs import build_network

    names = register()
    assert names == register()
    assert all(name.startswith("Within") and name in arch_registry() for name in names)
    built = build_network({"type": "WithinIMDN", "scale": 2, "depth": 2})
    assert built.state_dict().keys() == build("imdn_x2", depth=2).state_dict().keys()
    named = build_network({"type": "WithinNetwork", "name": "unet", "levels": 3})
    assert named.size_multiple == 4
    assert len(names) >= 16


def test_basicsr_trains_our_network():
    """Would catch a network of ours that its trainer cannot optimise, copy for the moving average, or validate."""
    from basicsr.models import build_model

    register()
    model = build_model(
        {
            "model_type": "SRModel", "num_gpu": 0, "dist": False, "is_train": True, "scale": 2,
            "network_g": {"type": "WithinEDSR", "width": 8, "depth": 1, "scale": 2},
            "path": {"pretrain_network_g": None, "strict_load_g": True},
            "train": {
                "ema_decay": 0.9, "total_iter": 10, "warmup_iter": -1,
                "optim_g": {"type": "Adam", "lr": 1e-2, "betas": [0.9, 0.99]},
                "scheduler": {"type": "MultiStepLR", "milestones": [5], "gamma": 0.5},
                "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
            },
        }
    )  # fmt: skip
    torch.manual_seed(0)
    clean = torch.rand(2, 3, 16, 16)
    losses = []
    for step in range(1, 9):
        model.feed_data({"lq": torch.nn.functional.avg_pool2d(clean, 2), "gt": clean})
        model.optimize_parameters(step)
        losses.append(model.log_dict["l_pix"])
    assert losses[-1] < losses[0]


def test_metrics_agree_on_photographs(data):
    """Would catch a window, a border, a luma or a rounding that differs from BasicSR's."""
    from basicsr.metrics import calculate_psnr, calculate_ssim

    random = np.random.default_rng(0)
    for gt in photographs(data):
        noisy = np.clip(gt + random.normal(0, 12, gt.shape), 0, 255).round().astype(np.uint8)
        swapped = [np.ascontiguousarray(image[:, :, ::-1]) for image in (noisy, gt)]
        for channel in ("rgb", "y"):
            for border in (0, 4):
                arguments = {"crop_border": border, "test_y_channel": channel == "y"}
                ours = {"channel": channel, "crop_border": border}
                assert psnr(noisy, gt, **ours) == pytest.approx(calculate_psnr(*swapped, **arguments), abs=1e-6)
                assert ssim(noisy, gt, **ours) == pytest.approx(calculate_ssim(*swapped, **arguments), abs=1e-6)


def test_its_database_is_read_here(tmp_path, data):
    """Would catch a key, a colour order or a meta file of BasicSR's tool that is not understood."""
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    folder = data("lowlevel") / "Set5" / "HR"
    files = sorted(FolderImages(folder).sizes)
    keys = [name.rpartition(".")[0] for name in files]
    assert len(keys) == 5
    make_lmdb_from_imgs(str(folder), str(tmp_path / "theirs.lmdb"), files, keys)
    source = LmdbImages(tmp_path / "theirs.lmdb")
    assert sorted(source.sizes) == keys
    for key, name in zip(keys, files, strict=True):
        np.testing.assert_array_equal(source.read(key), read_image(folder / name))


def test_our_database_is_read_there(tmp_path, data):
    """Would catch a database that BasicSR's own data set cannot open or reads in another colour order."""
    from basicsr.data.paired_image_dataset import PairedImageDataset

    folder = data("lowlevel") / "Set5"
    source = FolderImages(folder / "HR")
    write_lmdb(tmp_path / "gt.lmdb", source)
    write_lmdb(tmp_path / "lq.lmdb", source)
    dataset = PairedImageDataset(
        {
            "phase": "val", "scale": 1, "io_backend": {"type": "lmdb"}, "dataroot_gt": str(tmp_path / "gt.lmdb"),
            "dataroot_lq": str(tmp_path / "lq.lmdb"),
        }
    )  # fmt: skip
    assert len(dataset) == len(source.sizes)
    for index, name in enumerate(sorted(source.sizes)):
        expected = torch.from_numpy(source.read(name).astype(np.float32).transpose(2, 0, 1) / 255)
        torch.testing.assert_close(dataset[index]["gt"], expected, atol=1e-7, rtol=0)


def test_unknown_architectures_and_arguments_are_named():
    """Would catch a KeyError or a TypeError of BasicSR's that reaches the user."""
    with pytest.raises(WithinError, match=r"did you mean .*EDSR"):
        build_basicsr("EDRS")
    with pytest.raises(WithinError, match="it takes num_in_ch"):
        build_basicsr("EDSR", width=3)


def test_command_line_takes_its_networks(tmp_path, capsys):
    """Would catch `basicsr:` names that only some commands know."""
    small = ["--set", "num_block=1", "--set", "num_feat=8"]
    arguments = ["lowlevel", "plan", "--network", "basicsr:EDSR", "--size", "120x150", "--budget-mib", "6", "--json"]
    assert main([*arguments, *small]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["scale"], record["exact"]) == (4, True)
    assert record["rows"] * record["columns"] > 1
    path = tmp_path / "edsr.onnx"
    assert main(["lowlevel", "export", "basicsr:EDSR", str(path), "--json", *small]) == 0
    assert json.loads(capsys.readouterr().out)["onnx"]["dynamic_axes"] == [[0, 2, 3]]
    assert path.is_file()
