"""ImageNet as it is unpacked for training: one folder a class, classes in the order of their names.

A folder holds `imagenet/train/<class>/*` and `imagenet/val/<class>/*`. Training takes a random crop of 8 to 100 % of
the area and mirrors half of them; evaluation the centre 224 x 224 of an image whose shorter side is 256.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from within.core.errors import WithinError
from within.core.progress import track

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE, SHORTER = 224, 256
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


class ImageFolders(Dataset):
    """Images with the number of their class.

    Arguments:
        folder: one folder for each class in it.
        training: random crops instead of the centre.

    Raises:
        WithinError: when there is no such folder or no image in it.
    """

    def __init__(self, folder: Path, *, training: bool) -> None:
        self.training = training
        classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        self.items = [
            (path, number)
            for number, each in enumerate(classes)
            for path in sorted(each.iterdir())
            if path.suffix.lower() in SUFFIXES
        ]
        if not self.items:
            raise WithinError("There are no class folders with images", where=str(folder))

    def __len__(self) -> int:
        return len(self.items)

    def item_name(self, index: int) -> str:
        """Returns the path of an image."""
        return str(self.items[index][0])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise WithinError(f"The image cannot be read: {error}", where=str(path)) from error
        pixels = torch.from_numpy(np.array(random_crop(image) if self.training else centre(image)))
        mean, deviation = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, DEVIATION))
        return (pixels.permute(2, 0, 1).float() / 255 - mean) / deviation, label


def centre(image: Image.Image) -> Image.Image:
    """Returns the centre of an image whose shorter side is resized."""
    scale = SHORTER / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    return image.crop((left, top, left + SIZE, top + SIZE))


def random_crop(image: Image.Image) -> Image.Image:
    """Returns a crop of random area and shape, mirrored half of the time."""
    area = image.width * image.height
    for _ in range(10):
        share, ratio = random.uniform(0.08, 1.0), float(np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3))))
        width, height = round((area * share * ratio) ** 0.5), round((area * share / ratio) ** 0.5)
        if width <= image.width and height <= image.height:
            left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
            box = (left, top, left + width, top + height)
            image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
            break
    else:
        image = centre(image)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image


def imagenet_training(folder: Path) -> DataLoader:
    """The training images; batch size and workers may be changed by the caller."""
    return DataLoader(ImageFolders(folder / "imagenet" / "train", training=True), batch_size=256, num_workers=8)


def imagenet_error(folder: Path, model: nn.Module) -> dict[str, float]:
    """The errors on the validation images, in per cent."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    loader = DataLoader(ImageFolders(folder / "imagenet" / "val", training=False), batch_size=64, num_workers=8)
    first = five = count = 0
    with torch.no_grad():
        for images, labels in track(loader, "Validation", total=len(loader)):
            ranked = model(images.to(device)).topk(5).indices.cpu() == labels[:, None]
            first, five, count = first + int(ranked[:, 0].sum()), five + int(ranked.sum()), count + len(labels)
    model.to("cpu")
    return {"top-1 error": 100 * (1 - first / count), "top-5 error": 100 * (1 - five / count)}
