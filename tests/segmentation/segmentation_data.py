"""A small SwiftNet and a small data set in CamVid's layout, whose classes are the colours of rectangles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from within.segmentation.label_map import CAMVID

ARGUMENTS = {"classes": 11, "width": 8, "features": 16}
HEIGHT, WIDTH = 64, 96


def small_data(folder: Path, *, train: int = 8, val: int = 4) -> Path:
    """Writes pairs whose image is the label in the data set's colours, with noise; returns the folder."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            label = np.full((HEIGHT, WIDTH), 3, np.uint8)
            label[: HEIGHT // 2] = 0
            top, left = generator.integers(0, HEIGHT // 2), generator.integers(0, WIDTH // 2)
            label[top : top + 24, left : left + 32] = 8
            label[:, -2:] = 11
            image = CAMVID.colour(label).astype(np.int16) + generator.integers(-20, 20, (HEIGHT, WIDTH, 3))
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / split / "images" / f"{number:03}.png")
            Image.fromarray(label).save(folder / split / "labels" / f"{number:03}.png")
    return folder
