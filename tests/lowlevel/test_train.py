"""Training by configuration: every shipped configuration trains, means what it says, and fails in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file

from within.core.cli.configuration import read_dataclass
from within.core.errors import WithinError
from within.lowlevel.data.images import write_image
from within.lowlevel.data.resize import imresize
from within.lowlevel.models import build, variant
from within.lowlevel.train import in_iterations, main
from within.lowlevel.training_settings import TrainingSettings

CONFIGS = Path(__file__).parents[2] / "packages" / "lowlevel" / "configs"
NAMES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.py") if path.parent.name != "_base_")
# The smallest network of each kind; that the full one builds is checked without memory.
SMALL = {
    "dncnn": {"width": 4, "depth": 3},
    "ffdnet": {"width": 4, "depth": 3},
    "edsr": {"width": 4, "depth": 1},
    "msrresnet": {"width": 4, "depth": 1},
    "rcan": {"width": 4, "depth": 1, "groups": 1, "reduction": 2},
    "rrdbnet": {"width": 4, "depth": 1, "growth": 2},
    "nafnet": {"width": 4, "encoder": (1,), "middle": 1, "decoder": (1,)},
    "unet": {"widths": (4, 8)},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Returns a folder with `gray`, `rgb`, `noisy`, and `x2` to `x4`: two smooth images of 48x48."""
    folder = tmp_path_factory.mktemp("images")
    rows, columns = np.mgrid[:48, :48]
    for number in range(2):
        smooth = 127 + 60 * np.sin(rows / (5 + number)) * np.cos(columns / 7)
        rgb = np.stack([smooth, smooth[::-1], smooth.T], axis=2).astype(np.uint8)
        noise = np.random.default_rng(number).normal(0, 20, rgb.shape)
        write_image(folder / "rgb" / f"{number}.png", rgb)
        write_image(folder / "gray" / f"{number}.png", rgb[:, :, :1])
        write_image(folder / "noisy" / f"{number}.png", np.clip(rgb + noise, 0, 255).astype(np.uint8))
        for scale in (2, 3, 4):
            write_image(folder / f"x{scale}" / f"{number}.png", imresize(rgb, 1 / scale))
    return folder


def overrides(name: str, folder: Path, **more) -> dict:
    """Returns what makes a configuration small: two iterations of a tiny network on the tiny images."""
    config = Config.fromfile(CONFIGS / name)
    known = variant(config.network)
    clean = str(folder / ("gray" if known.channels == 1 else "rgb"))
    changes = {
        "arguments": SMALL.get(name.split("/")[0], {}),
        "iterations": 2,
        "batch_size": 2,
        "workers": 0,
        "checkpoint_every": 1,
        "log_every": 1,
        "train.patch_size": 12 * known.scale if known.scale > 1 else 32,
        **more,
    }
    degraded = str(folder / f"x{known.scale}") if known.scale > 1 else str(folder / "noisy")
    for part in ("train", "validation"):
        if config[part] is None:
            continue
        if config[part].get("gt") not in (None, "samples"):
            changes[f"{part}.gt"] = clean
        if config[part].get("lq") is not None:
            changes[f"{part}.lq"] = degraded
            changes[f"{part}.backend"] = "disk"
    if config.validation is not None:
        changes["validation.every"] = 1
        if config.validation.gt == "samples":
            changes["validation.gt"] = clean
    if config.get("teacher") is not None:
        changes["teacher.arguments"] = SMALL["unet"]
    return changes


@pytest.mark.parametrize("name", NAMES)
def test_configuration_builds_its_network_at_full_size(name):
    """Catches a network name or an argument that does not exist."""
    settings = read_dataclass(TrainingSettings, Config.fromfile(CONFIGS / name).to_dict(), name)
    with torch.device("meta"):
        network = build(settings.network, **settings.arguments)
    if not settings.arguments:
        assert sum(parameter.numel() for parameter in network.parameters()) == variant(settings.network).parameters


@pytest.mark.parametrize("name", [name for name in NAMES if "from_teacher" not in name])
def test_configuration_trains(name, images, tmp_path):
    """Catches a configuration that does not load, reads other data than it says, or fails in a step or a validation."""
    result = main(CONFIGS / name, run_directory=tmp_path / "run", device="cpu", overrides=overrides(name, images))
    assert result.iterations == 2
    assert [iteration for iteration, _ in result.metrics] == [1, 2]
    assert all(np.isfinite(value) for _, figures in result.metrics for value in figures.values())
    saved = load_file(tmp_path / "run" / "model.safetensors")
    state = result.model.state_dict()
    assert all(torch.equal(saved[key], value) for key, value in state.items())
    assert json.loads((tmp_path / "run" / "training.json").read_text())["settings"]["iterations"] == 2
    assert Config.fromfile(tmp_path / "run" / "config.py").name == result_name(name)


def result_name(name: str) -> str:
    return Path(name).stem


def test_learns_from_a_teacher_on_noisy_photographs_alone(images, tmp_path):
    """Catches a configuration without clean images that still asks for them."""
    name = "unet/unet_denoise.py"
    main(CONFIGS / name, run_directory=tmp_path / "teacher", device="cpu", overrides=overrides(name, images))
    name = "unet/unet_denoise_from_teacher.py"
    changes = overrides(name, images, iterations=60, **{"teacher.weights": str(tmp_path / "teacher/model.safetensors")})
    result = main(CONFIGS / name, run_directory=tmp_path / "student", device="cpu", overrides=changes)
    first = np.mean([loss for _, loss in result.losses[:10]])
    assert np.mean([loss for _, loss in result.losses[-10:]]) < first


PUBLISHED = {
    "dncnn/dncnn_s25.py": {
        "network": "dncnn_s",
        "batch_size": 128,
        "epochs": 50,
        "loss": {"type": "half_sum_of_squares"},
        "optimizer": {"type": "Adam", "lr": 1e-3},
        "schedule": {"type": "MultiStepLR", "milestones": (30,), "gamma": 0.1},
    },
    "edsr/edsr_baseline_x2.py": {
        "batch_size": 16,
        "iterations": 300_000,
        "ema": 0.999,
        "loss": {"type": "l1"},
        "optimizer": {"type": "Adam", "lr": 1e-4, "betas": (0.9, 0.99)},
    },
    "nafnet/nafnet_sidd_w32.py": {
        "iterations": 200_000,
        "loss": {"type": "negative_psnr"},
        "optimizer": {"type": "AdamW", "lr": 1e-3, "betas": (0.9, 0.9), "weight_decay": 0.0},
        "schedule": {"type": "CosineAnnealingLR", "T_max": 200_000, "eta_min": 1e-7},
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_are_the_published_ones(name):
    """Catches a configuration changed for a quick experiment."""

    def plain(value):
        return tuple(value) if isinstance(value, list) else value

    settings = read_dataclass(TrainingSettings, Config.fromfile(CONFIGS / name).to_dict(), name)
    for attribute, expected in PUBLISHED[name].items():
        found = getattr(settings, attribute)
        found = {key: plain(value) for key, value in found.items()} if isinstance(found, dict) else found
        assert found == expected, attribute


def test_dncnn_trains_on_the_published_patches():
    """Catches another patch size, stride or set of scales than the paper's."""
    train = read_dataclass(TrainingSettings, Config.fromfile(CONFIGS / "dncnn/dncnn_s25.py").to_dict(), "").train
    assert (train.patch_size, train.stride, train.scales, train.sigma) == (40, 10, (1.0, 0.9, 0.8, 0.7), 25)
    blind = read_dataclass(TrainingSettings, Config.fromfile(CONFIGS / "dncnn/dncnn_b.py").to_dict(), "").train
    assert (blind.patch_size, blind.sigma) == (50, (0, 55))


def test_a_schedule_in_epochs_becomes_one_in_iterations():
    """Catches a milestone at iteration 30 where epoch 30 is meant."""
    schedule = [{"type": "MultiStepLR", "milestones": [30], "gamma": 0.1}, {"type": "LinearLR", "begin": 0, "end": 5}]
    assert in_iterations(schedule, 100) == [
        {"type": "MultiStepLR", "milestones": [3000], "gamma": 0.1},
        {"type": "LinearLR", "begin": 0, "end": 500},
    ]
    assert in_iterations("cosine", 100) == "cosine"


def test_an_interrupted_training_resumes_to_the_same_weights(images, tmp_path):
    """Catches patches or noise that depend on how often the training was started."""
    name = "dncnn/dncnn_s25.py"
    whole = main(
        CONFIGS / name, run_directory=tmp_path / "a", device="cpu", overrides=overrides(name, images, iterations=6)
    )
    folder, changes = tmp_path / "b", overrides(name, images, iterations=6)
    main(CONFIGS / name, run_directory=folder, device="cpu", overrides=changes)
    for path in sorted((folder / "checkpoints").iterdir())[1:]:
        path.unlink()  # what a kill before the last checkpoint leaves
    resumed = main(CONFIGS / name, run_directory=folder, device="cpu", overrides=changes, resume=True)
    assert resumed.resumed_from == 5
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


BAD = {
    "did you mean 'iterations'": {"iteration": 3},
    "did you mean 'patch_size'": {"train.patchsize": 3},
    "no network named": {"network": "dncn"},
    "no loss named": {"loss": {"type": "l3", "_delete_": True}},
    "no clean image|Noise is not added": {"train.lq": "x"},
    "folder of images does not exist": {"train.gt": "nowhere"},
    "smaller than a patch": {"train.patch_size": 64},
    "nothing to minimise": {"loss": None},
    "no optimizer": {"optimizer.type": "Adamm"},
    "no protocol named": {"validation.protocol": "set13"},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_settings_are_refused_in_words_and_leave_no_run_directory(message, images, tmp_path):
    """Catches a KeyError, and a half-made run directory that blocks the corrected second try."""
    name = "dncnn/dncnn_s25.py"
    changes = {**overrides(name, images), **BAD[message]}
    with pytest.raises(WithinError, match=message):
        main(CONFIGS / name, run_directory=tmp_path / "run", device="cpu", overrides=changes)
    assert not (tmp_path / "run").exists()


def test_a_run_directory_in_use_is_not_overwritten(images, tmp_path):
    """Catches a second training that destroys the first one's weights."""
    name = "dncnn/dncnn_s25.py"
    (tmp_path / "model.safetensors").write_text("precious")
    with pytest.raises(WithinError, match="exists and is not empty"):
        main(CONFIGS / name, run_directory=tmp_path, device="cpu", overrides=overrides(name, images))
    assert (tmp_path / "model.safetensors").read_text() == "precious"


def test_weights_of_another_network_are_refused(images, tmp_path):
    """Catches a training that starts from random weights because no name fitted."""
    name = "dncnn/dncnn_s25.py"
    main(CONFIGS / name, run_directory=tmp_path / "a", device="cpu", overrides=overrides(name, images))
    changes = overrides(name, images, weights=str(tmp_path / "a/model.safetensors"), arguments={"width": 6, "depth": 3})
    with pytest.raises(WithinError, match="not those of this DnCNN"):
        main(CONFIGS / name, run_directory=tmp_path / "b", device="cpu", overrides=changes)


def test_a_truncated_training_image_is_named(images, tmp_path):
    """Catches a decoder's traceback after hours of training."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in (images / "gray").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:400])
    name = "dncnn/dncnn_s25.py"
    changes = {**overrides(name, images), "train.gt": str(folder)}
    with pytest.raises(WithinError, match="truncated") as found:
        main(CONFIGS / name, run_directory=tmp_path / "run", device="cpu", overrides=changes)
    assert "1.png" in str(found.value)


def test_a_configuration_that_does_not_run_is_named(tmp_path):
    """Catches a traceback from inside the configuration reader."""
    (tmp_path / "broken.py").write_text("name = 1 / 0\n")
    with pytest.raises(WithinError, match="ZeroDivisionError"):
        main(tmp_path / "broken.py")
    with pytest.raises(WithinError, match="no such configuration"):
        main(tmp_path / "absent.py")


OPTIONS = """
name: edsr_from_options
model_type: SRModel
scale: 2
manual_seed: 3
datasets:
  train:
    type: PairedImageDataset
    dataroot_gt: {folder}/rgb
    dataroot_lq: {folder}/x2
    io_backend: {{type: disk}}
    gt_size: 24
    use_hflip: true
    use_rot: true
    batch_size_per_gpu: 2
  val:
    type: PairedImageDataset
    dataroot_gt: {folder}/rgb
    dataroot_lq: {folder}/x2
    io_backend: {{type: disk}}
network_g:
  type: EDSR
  num_in_ch: 3
  num_out_ch: 3
  num_feat: 6
  num_block: 2
  upscale: 2
  res_scale: 1
  img_range: 255.
  rgb_mean: [0.4488, 0.4371, 0.4040]
train:
  ema_decay: 0.99
  optim_g: {{type: Adam, lr: 1e-4, weight_decay: 0, betas: [0.9, 0.99]}}
  scheduler: {scheduler}
  total_iter: 3
  warmup_iter: 2
  pixel_opt: {{type: {loss}, loss_weight: 2.0, reduction: mean}}
val:
  val_freq: 2
  metrics:
    quality: {{type: calculate_psnr, crop_border: 2, test_y_channel: false}}
"""
SCHEDULERS = (
    "{type: MultiStepLR, milestones: [2], gamma: 0.5}",
    "{type: CosineAnnealingRestartLR, periods: [2, 2], restart_weights: [1, 1], eta_min: 1e-7}",
    "{type: TrueCosineAnnealingLR, T_max: 3, eta_min: 1e-7}",
)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("loss", ["L1Loss", "CharbonnierLoss", "PSNRLoss"])
def test_an_option_file_of_basicsr_trains(scheduler, loss, images, tmp_path):
    """Catches keys that are read but have no effect: the network's width, the metric's name, the loss."""
    path = tmp_path / "options.yml"
    path.write_text(OPTIONS.format(folder=images, scheduler=scheduler, loss=loss))
    result = main(path, run_directory=tmp_path / "run", device="cpu")
    assert result.iterations == 3
    assert result.model.conv_first.weight.shape[0] == 6
    assert [(iteration, *figures) for iteration, figures in result.metrics] == [(2, "quality"), (3, "quality")]


def test_an_architecture_of_basicsr_without_equal_is_refused(images, tmp_path):
    """Catches another network trained under the file's name."""
    path = tmp_path / "options.yml"
    text = OPTIONS.format(folder=images, scheduler=SCHEDULERS[0], loss="L1Loss").replace("type: EDSR", "type: SwinIR")
    path.write_text(text)
    with pytest.raises(WithinError, match="'SwinIR' has no equal here") as found:
        main(path, run_directory=tmp_path / "run")
    assert "line" in found.value.where
