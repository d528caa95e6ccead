"""Option files: those of BasicSR mean here what they mean there, and no key is half understood."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from within.core.errors import WithinError
from within.lowlevel.data import ArrayImages, DegradedImages, GaussianNoise, PairedImages, write_image, write_lmdb
from within.lowlevel.metrics import Metric
from within.lowlevel.option_keys import COMPONENTS, IGNORED, SUPPORTED, UNSUPPORTED
from within.lowlevel.options import open_dataset, read_options

TRAIN = """\
name: small
model_type: SRModel
scale: 2
num_gpu: auto
manual_seed: 10

datasets:
  train:
    name: pictures
    type: PairedImageDataset
    dataroot_gt: {root}/gt
    dataroot_lq: {root}/lq
    meta_info_file: ~
    filename_tmpl: '{{}}x2'
    io_backend:
      type: disk
    gt_size: 8
    use_hflip: true
    use_rot: false
    num_worker_per_gpu: 2
    batch_size_per_gpu: 4
    dataset_enlarge_ratio: 5
    prefetch_mode: ~
  val:
    name: pictures
    type: PairedImageDataset
    dataroot_gt: {root}/gt
    dataroot_lq: {root}/lq
    filename_tmpl: '{{}}x2'

network_g:
  type: EDSR
  num_feat: 64
  rgb_mean: [0.4, 0.4, 0.4]

path:
  pretrain_network_g: ~/weights.pth
  strict_load_g: false
  param_key_g: params_ema
  resume_state: ~

train:
  ema_decay: 0.999
  optim_g:
    type: Adam
    lr: 1e-4
    weight_decay: 0
    betas: [0.9, 0.99]
  scheduler:
    type: MultiStepLR
    milestones: [200000]
    gamma: 0.5
  total_iter: !!float 3e5
  warmup_iter: -1
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean

val:
  val_freq: !!float 5e3
  save_img: false
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: 2
      test_y_channel: true
    better_name:
      type: calculate_ssim
      better: higher
    niqe:
      type: calculate_niqe
      crop_border: 4

logger:
  print_freq: 50
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb:
    project: ~

dist_params:
  backend: nccl
  port: 29500
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "options.yml"
        path.write_text(text.replace("{root}", str(tmp_path)).replace("{{}}", "{}"))
        return path

    return write


def test_a_training_file_is_read_whole(file, tmp_path):
    """Catches a key that is read into the wrong place, or a number that YAML takes for text (1e-4)."""
    options = read_options(file(TRAIN))
    assert (options.name, options.scale, options.manual_seed, options.print_freq) == ("small", 2, 10, 50)
    assert options.save_checkpoint_freq == 5000
    train = options.datasets["train"]
    assert (train.phase, train.gt_size, train.use_flip, train.use_rot) == ("train", 8, True, False)
    assert (train.batch_size_per_gpu, train.num_worker_per_gpu, train.dataset_enlarge_ratio) == (4, 2, 5)
    assert (train.dataroot_gt, train.filename_tmpl) == (f"{tmp_path}/gt", "{}x2")
    assert options.network_g.type == "EDSR"
    assert options.network_g.arguments == {"num_feat": 64, "rgb_mean": [0.4, 0.4, 0.4]}
    assert options.network_g.where.endswith("line 32")
    assert options.path.pretrain_network_g is not None
    assert not options.path.pretrain_network_g.startswith("~")
    assert (options.path.strict_load_g, options.path.param_key_g) == (False, "params_ema")
    assert options.train is not None
    assert options.train.optim_g.arguments == {"lr": 1e-4, "weight_decay": 0.0, "betas": (0.9, 0.99)}
    assert (options.train.total_iter, options.train.warmup_iter, options.train.ema_decay) == (300_000, 0, 0.999)
    assert options.train.scheduler is not None
    assert options.train.scheduler.arguments["milestones"] == (200_000,)
    assert options.train.pixel_opt is not None
    assert options.train.pixel_opt.type == "L1Loss"
    assert options.val.val_freq == 5000
    assert options.val.metrics == {
        "psnr": Metric("psnr", "uint8", "y", 2),
        "better_name": Metric("ssim", "uint8", "rgb", 0),
    }
    ignored = {key: line for key, line, _ in options.ignored}
    assert ignored["num_gpu"] == 4
    assert {"dist_params", "logger.wandb", "val.metrics.niqe", "datasets.train.prefetch_mode"} <= set(ignored)


def test_a_test_file_needs_no_training(file):
    """Catches demands that only training has, and a generator of an adversarial model refused in a test."""
    options = read_options(
        file(
            "name: t\nmodel_type: ESRGANModel\nscale: 4\ndatasets:\n"
            "  test_1:\n    name: Set5\n    type: PairedImageDataset\n    dataroot_gt: a\n    dataroot_lq: b\n"
            "  test_2:\n    type: SingleImageDataset\n    dataroot_lq: b\n"
            "network_g:\n  type: RRDBNet\nval:\n  use_image: false\n  metrics:\n    psnr:\n      type: calculate_psnr\n"
        )
    )
    assert options.train is None
    assert [dataset.phase for dataset in options.datasets.values()] == ["test", "test"]
    assert options.val.metrics["psnr"].values == "float"
    with pytest.raises(WithinError, match="dataroot_gt"):
        open_dataset(options.datasets["test_2"], 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    gt_size: 8", "    gt_sise: 8", r"line 17: `datasets.train.gt_sise` is not a known key.*gt_size"),
        ("    gt_size: 8", "    gt_size: eight", r"line 17: `datasets.train.gt_size` is 'eight'; a whole number"),
        ("    gt_size: 8", "    gt_size: 7", r"gt_size` 7 is not a multiple of the scale 2"),
        ("    gt_size: 8\n", "", r"line 8: `datasets.train.gt_size` is missing"),
        ("    gt_size: 8", "    gt_size: 8\n    gt_size: 16", r"line 18: `datasets.train.gt_size` comes twice"),
        ("    use_rot: false", "    use_rot: no way", r"line 19: .*true or false"),
        ("    use_rot: false", "    mean: [0.5, 0.5, 0.5]", r"line 19: `datasets.train.mean` is not supported"),
        ("      type: disk", "      type: memcached", r"line 16: .*one of disk, lmdb"),
        ("    type: PairedImageDataset\n", "    type: REDSDataset\n", r"line 10: .*'REDSDataset'"),
        ("    dataroot_lq: {root}/lq\n    meta", "    meta", r"`datasets.train.dataroot_lq` is missing"),
        ("  train:\n", "  learn:\n", r"line 8: `datasets.learn` must be named train, val or test"),
        ("scale: 2\n", "scale: 0\n", r"line 3: `scale` is 0"),
        ("scale: 2\n", "", "`scale` is missing"),
        ("model_type: SRModel", "model_type: SRGANModel", r"line 2: `model_type` SRGANModel cannot be trained"),
        ("network_g:\n  type: EDSR\n", "network_g:\n", r"`network_g.type` is None"),
        ("    type: Adam\n", "    type: Lion\n", r"`train.optim_g.type` is 'Lion'.*Adam, AdamW, SGD"),
        (
            "    type: Adam\n",
            "    type: Adam\n    momentum: 1\n",
            r"`train.optim_g.momentum` is not an argument of Adam",
        ),
        ("    lr: 1e-4", "    lr: fast", r"`train.optim_g.lr` is 'fast'; a number"),
        ("  ema_decay: 0.999", "  ema_decay: 1.5", r"`train.ema_decay` is 1.5"),
        ("  ema_decay: 0.999", "  gan_opt:\n    type: GANLoss", r"`train.gan_opt` is not supported \(adversarial"),
        ("  ema_decay: 0.999", "  perceptual: 1", "`train.perceptual` is not a known key"),
        ("logger:\n", "loger:\n", "`loger` is not a known key"),
        ("path:\n", "path: here\nval_2:\n", "`path` must be a map"),
        ("      type: calculate_psnr\n", "", r"`val.metrics.psnr.type` is missing"),
    ],
)
def test_every_fault_is_named_with_its_line(file, old, new, message):
    """Catches keys that are dropped in silence, and errors without a place."""
    assert TRAIN.count(old) >= 1
    with pytest.raises(WithinError, match=message):
        read_options(file(TRAIN.replace(old, new, 1)))


def test_all_faults_come_at_once(file):
    """Catches one fault a run."""
    text = TRAIN.replace("gt_size: 8", "gt_sise: 8").replace("scale: 2", "scale: two")
    with pytest.raises(WithinError, match=r"3 faults: line 3: .*; line 8: .*missing; line 17:") as caught:
        read_options(file(text))
    assert str(caught.value).count("line ") == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a map"),
        (b"- a\n- b\n", "not a map"),
        (b"a: [1, 2\nb: 3\n", "not valid YAML.*line 2"),
        (b"a: !!python/object/apply:os.system ['true']\n", "not valid YAML.*line 1"),
        (b"name: \xff\xfe\n", "not text"),
        (b"scale: &x {scale: *x}\n", "scale"),
    ],
)
def test_files_that_are_no_option_files_are_refused(tmp_path, content, message):
    """Catches tracebacks of the YAML parser, and Python objects made by a file."""
    path = tmp_path / "options.yml"
    path.write_bytes(content)
    with pytest.raises(WithinError, match=message):
        read_options(path)
    with pytest.raises(WithinError, match="absent"):
        read_options(tmp_path / "absent.yml")


def test_no_key_is_in_two_tables():
    """Catches a key that is both read and refused."""
    tables = [set(SUPPORTED), set(COMPONENTS), set(IGNORED), set(UNSUPPORTED)]
    assert len(set.union(*tables)) == sum(map(len, tables))


def test_the_data_sets_of_a_file_open(file, tmp_path):
    """Catches options that never reach the data: patches, template, scale, enlargement, backend."""
    generator = np.random.default_rng(0)
    high = {name: generator.integers(0, 256, (12, 16, 3), dtype=np.uint8) for name in ("a", "b")}
    low = {f"{name}x2": image[::2, ::2] for name, image in high.items()}
    for folder, images in (("gt", high), ("lq", low)):
        for name, image in images.items():
            write_image(tmp_path / folder / f"{name}.png", image)
    options = read_options(file(TRAIN))
    train = open_dataset(options.datasets["train"], options.scale)
    assert isinstance(train, PairedImages)
    assert len(train) == 10
    assert train[0]["gt"].shape == (3, 8, 8)
    assert train.patches is not None
    assert (train.patches.flip, train.patches.rotate) == (True, False)
    whole = open_dataset(options.datasets["val"], options.scale)
    assert isinstance(whole, PairedImages)
    assert len(whole) == 2
    assert whole[1]["lq"].shape == (3, 6, 8)

    write_lmdb(tmp_path / "gt.lmdb", ArrayImages({f"{name}.png": image for name, image in high.items()}))
    write_lmdb(tmp_path / "lq.lmdb", ArrayImages({f"{name[0]}.png": image for name, image in low.items()}))
    text = TRAIN.replace("{root}/gt", "{root}/gt.lmdb").replace("{root}/lq", "{root}/lq.lmdb")
    text = text.replace("type: disk", "type: lmdb").replace("{{}}x2", "{{}}")
    lmdb = open_dataset(read_options(file(text)).datasets["train"], 2)
    assert isinstance(lmdb, PairedImages)
    assert lmdb[3]["lq"].shape == (3, 4, 4)


def test_noise_is_made_for_gaussian_denoising(file, tmp_path):
    """Catches a sigma in the wrong unit, and test noise that is drawn anew."""
    write_image(tmp_path / "gt" / "a.png", np.full((40, 40, 3), 99, np.uint8))
    options = read_options(
        file(
            "name: d\nscale: 1\nmodel_type: ImageCleanModel\nnetwork_g:\n  type: Restormer\n"
            "train:\n  total_iter: 10\n  optim_g:\n    type: AdamW\n    lr: 0.001\n"
            "datasets:\n"
            "  train:\n    type: Dataset_GaussianDenoising\n    dataroot_gt: {root}/gt\n    dataroot_lq: none\n"
            "    sigma_type: random\n    sigma_range: [0, 50]\n    in_ch: 1\n"
            "    gt_size: 32\n    geometric_augs: true\n"
            "  val:\n    type: Dataset_GaussianDenoising\n    dataroot_gt: {root}/gt\n"
            "    sigma_test: 25\n    in_ch: 3\n"
        )
    )
    train = open_dataset(options.datasets["train"], 1)
    assert isinstance(train, DegradedImages)
    assert train.degradation == GaussianNoise((0, 50), "random")
    assert train[0]["lq"].shape == (1, 32, 32)
    val = open_dataset(options.datasets["val"], 1)
    assert isinstance(val, DegradedImages)
    assert val.degradation == GaussianNoise(25, "kair")
    noise = val[0]["lq"] - val[0]["gt"]
    assert float(noise.std()) * 255 == pytest.approx(25, abs=1)
    assert torch.equal(val[0]["lq"], val[0]["lq"])


def test_yaml_merging_is_understood(file):
    """Catches `<<` taken for an unknown key."""
    text = TRAIN.replace("  train:\n", "  train: &both\n", 1).replace(
        "  val:\n    name: pictures\n", "  val:\n    <<: *both\n    name: others\n", 1
    )
    options = read_options(file(text))
    assert options.datasets["val"].gt_size == 8
    assert options.datasets["val"].name == "others"
