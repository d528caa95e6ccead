"""The table of low-bit training runs on the images that are here, and reads CIFAR-10 as its home page has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tools.data.cifar10 import CroppedImages, cifar10

from within.core.bench import benchmark_folder
from within.core.cli.configuration import load_config
from within.core.cli.low_bit_table import low_bit_table
from within.core.errors import WithinError


def test_the_table_runs_on_the_images_that_are_here(data, tmp_path, monkeypatch):
    """Catches readers, networks and formats that do not fit together, and a second call that trains again."""
    monkeypatch.chdir(tmp_path)
    table = load_config(benchmark_folder().parent / "reproduce" / "low_bit_training.py")
    table.settings.update(iterations=4, batch_size=8)
    table.rows = table.rows[:2]
    result = low_bit_table(table, data("core"))
    assert [row[0] for row in result.rows] == ["float32", "<2,1>"]
    assert all(0 <= row[1] <= 100 for row in result.rows)
    assert low_bit_table(table, data("core")).rows == result.rows


def test_the_binary_files_of_cifar10_are_read(tmp_path):
    """Catches labels taken for pixels, channels in another order, a part that ends too early or in the middle."""
    random = np.random.default_rng(0)
    batches = {name: random.integers(0, 256, (7, 3073), dtype=np.uint8) for name in range(1, 6)}
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for number, records in batches.items():
        records[:, 0] %= 10
        records.tofile(tmp_path / "cifar-10-batches-bin" / f"data_batch_{number}.bin")
    images, labels = cifar10(tmp_path, "train")
    assert images.shape == (35, 3, 32, 32)
    assert labels.tolist() == np.concatenate([records[:, 0] for records in batches.values()]).tolist()
    pixel = batches[2][3, 1 + 1024 + 5 * 32 + 6]  # green, row 5, column 6 of image 10
    assert images[10, 1, 5, 6].item() == pytest.approx((pixel / 255 - 0.456) / 0.224, abs=1e-5)
    some, _ = cifar10(tmp_path, "train", 10, 3)
    assert torch.equal(some, images[10:13])
    with pytest.raises(WithinError, match="neither"):
        cifar10(tmp_path, "test")
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"x" * 4000)
    with pytest.raises(WithinError, match="truncated"):
        cifar10(tmp_path, "test")


def test_crops_are_of_the_image_and_repeat_with_the_seed():
    """Catches crops that mix images, labels that do not follow, and randomness that nothing decides."""
    images = torch.arange(1, 5).float().reshape(4, 1, 1, 1).expand(4, 3, 32, 32).contiguous()
    source = CroppedImages(images, torch.arange(1, 5))
    found, labels = source.batch(torch.tensor([2, 0, 3]), torch.Generator().manual_seed(0))
    assert labels.tolist() == [3, 1, 4]
    for image, label in zip(found, labels, strict=True):
        assert set(image.unique().tolist()) <= {0.0, float(label)}
        assert (image == label).sum() >= 3 * 28 * 28
    again, _ = source.batch(torch.tensor([2, 0, 3]), torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
