"""MNIST (LeCun, Cortes, Burges) as the LeNets read it: from the four IDX files, or from a part of the test digits.

A folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two of `t10k`, each with or without `.gz`.
Or it holds `mnist_t10k_even.npz`, 5,000 of the test digits: then the even ones train and the odd ones measure.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tools.data.deformed_digits import DeformedDigits, plain_digits
from tools.data.top1 import top1
from torch import Tensor, nn

from within.core.errors import WithinError

PART = "mnist_t10k_even.npz"


@dataclass(frozen=True)
class Mnist:
    """Digits to train on and digits to measure on; none is in both.

    Attributes:
        train_images, test_images: uint8, (items, 28, 28).
        train_labels, test_labels: of the items.
        mean: mean image in [0, 1].
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: Tensor


def mnist(folder: Path) -> Mnist:
    """Reads the digits of a folder.

    Raises:
        WithinError: when it holds neither form, or a file is damaged.
    """
    if (folder / PART).is_file():
        with np.load(folder / PART) as file:
            images, labels = torch.from_numpy(file["x"]), torch.from_numpy(file["y"]).long()
            return Mnist(images[::2], labels[::2], images[1::2], labels[1::2], torch.from_numpy(file["mean_image"]))
    train, test = (_idx(folder, f"{part}-images-idx3-ubyte", 3) for part in ("train", "t10k"))
    train_labels, test_labels = (_idx(folder, f"{part}-labels-idx1-ubyte", 1) for part in ("train", "t10k"))
    if len(train) != len(train_labels) or len(test) != len(test_labels):
        raise WithinError("There are not as many labels as digits", where=str(folder))
    return Mnist(train, train_labels.long(), test, test_labels.long(), train.float().mean(0) / 255)


def centred_training(folder: Path) -> DeformedDigits:
    """Digits less the mean image, with small deformations, as LeNet-300-100 is trained on."""
    digits = mnist(folder)
    return DeformedDigits(digits.train_images, digits.train_labels, digits.mean)


def centred_error(folder: Path, model: nn.Module) -> dict[str, float]:
    """The error on digits less the mean image, in per cent."""
    digits = mnist(folder)
    return _error(model, plain_digits(digits.test_images, digits.mean), digits.test_labels)


def scaled_training(folder: Path) -> DeformedDigits:
    """Digits from 0 to 1, with small deformations, as Caffe's LeNet-5 is trained on."""
    digits = mnist(folder)
    return DeformedDigits(digits.train_images, digits.train_labels, torch.zeros_like(digits.mean))


def scaled_error(folder: Path, model: nn.Module) -> dict[str, float]:
    """The error on digits from 0 to 1, in per cent."""
    digits = mnist(folder)
    return _error(model, plain_digits(digits.test_images, torch.zeros_like(digits.mean)), digits.test_labels)


def _error(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    return {"top-1 error": 100 - top1(model, images, labels)}


def _idx(folder: Path, name: str, axes: int) -> Tensor:
    """Reads an IDX file: two zero bytes, the type 8, the number of axes, their sizes as big-endian words, the data."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            break
    else:
        raise WithinError(f"The digits are missing: neither {name} nor {name}.gz nor {PART}", where=str(folder))
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise WithinError(f"The file cannot be read: {error}", where=str(path)) from error
    shape = tuple(int.from_bytes(content[4 * n : 4 * n + 4], "big") for n in range(1, axes + 1))
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) != 4 + 4 * axes + int(np.prod(shape)):
        raise WithinError("This is no IDX file of bytes, or it is truncated", where=str(path))
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape).copy())
