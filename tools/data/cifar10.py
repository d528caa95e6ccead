"""CIFAR-10 (Krizhevsky 2009): the binary files of its home page, or a part of it as JPEG files in one archive.

A folder holds `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin` (itself or in `cifar-10-batches-bin`), or
`cifar10_jpeg_subset.npz` with 12,000 training and 2,000 test images. Training pads by 4, crops and mirrors (He et al.,
CVPR 2016, section 4.2).
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tools.data.image_folders import DEVIATION, MEAN
from tools.data.top1 import top1
from torch import Tensor, nn

from within.core.errors import WithinError

PART = "cifar10_jpeg_subset.npz"
BINARY = "cifar-10-batches-bin"
SIZE = 32
RECORD = 1 + 3 * SIZE * SIZE
PADDING = 4


class CroppedImages:
    """Images in memory, each moved by up to `padding` pixels and mirrored half of the time: a batch source of `fit`."""

    def __init__(self, images: Tensor, labels: Tensor, padding: int = PADDING) -> None:
        self.images, self.labels, self.padding = F.pad(images, [padding] * 4), labels, padding

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns the images of these numbers, each cropped at a place of its own."""
        images, count = self.images[indices], len(indices)
        if self.padding:
            corners = torch.randint(2 * self.padding + 1, (count, 2), generator=generator)
            y, x = (corner[:, None] + torch.arange(SIZE) for corner in corners.unbind(1))
            item = torch.arange(count)[:, None, None]
            images = images.permute(0, 2, 3, 1)[item, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2).contiguous()
        mirrored = torch.rand(count, generator=generator) < 0.5
        return torch.where(mirrored[:, None, None, None], images.flip(3), images), self.labels[indices]


def cifar10(folder: Path, part: str, first: int = 0, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns normalised images [items, 3, 32, 32] and labels.

    Arguments:
        folder: see above.
        part: "train" or "test".
        first, count: which images of the part; all from the first on by default.

    Raises:
        WithinError: when the folder holds neither form, or a file is truncated.
    """
    if (folder / PART).is_file():
        pixels, labels = _decoded(folder / PART, part, first, count)
    else:
        pixels, labels = _records(folder, part, first, count)
    mean, deviation = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, DEVIATION))
    return (pixels.float() / 255 - mean) / deviation, labels.long()


def training(folder: Path) -> CroppedImages:
    """The training images, cropped and mirrored."""
    return CroppedImages(*cifar10(folder, "train"))


def accuracy(folder: Path, model: nn.Module) -> dict[str, float]:
    """The share of test images that are recognised, in per cent."""
    return {"top-1": top1(model, *cifar10(folder, "test"))}


def _decoded(path: Path, part: str, first: int, count: int | None) -> tuple[Tensor, Tensor]:
    with np.load(path) as file:
        offsets, encoded, labels = (file[f"{part}_{key}"] for key in ("offsets", "jpeg", "labels"))
    last = len(labels) if count is None else min(first + count, len(labels))
    pictures = [
        np.asarray(Image.open(io.BytesIO(encoded[offsets[number] : offsets[number + 1]].tobytes())))
        for number in range(first, last)
    ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), torch.from_numpy(labels[first:last])


def _records(folder: Path, part: str, first: int, count: int | None) -> tuple[Tensor, Tensor]:
    """Reads records of a label and 3,072 pixels, channel by channel."""
    place = folder / BINARY if (folder / BINARY).is_dir() else folder
    names = ["test_batch.bin"] if part == "test" else [f"data_batch_{number}.bin" for number in range(1, 6)]
    found = []
    for path in (place / name for name in names):
        if not path.is_file():
            raise WithinError(
                f"CIFAR-10 is missing: neither {PART} nor {path.name}",
                where=str(folder),
                todo="unpack cifar-10-binary.tar.gz of its home page there",
            )
        content = np.fromfile(path, dtype=np.uint8)
        if content.size == 0 or content.size % RECORD:
            raise WithinError("The file is truncated or no batch of CIFAR-10", where=str(path))
        found.append(content.reshape(-1, RECORD))
    records = torch.from_numpy(np.concatenate(found)[first : None if count is None else first + count])
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
