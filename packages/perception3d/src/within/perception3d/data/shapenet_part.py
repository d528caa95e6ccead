"""Parts of objects: shapenetcore_partanno_segmentation_benchmark_v0_normal.

    synsetoffset2category.txt                        Airplane <tab> 02691156
    train_test_split/shuffled_{train,val,test}_file_list.json        ["shape_data/02691156/<name>", ...]
    02691156/<name>.txt                              x y z nx ny nz part

Yi et al.: A Scalable Active Framework for Region Annotation in 3D Shape Collections, SIGGRAPH Asia 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from within.core.errors import WithinError
from within.core.files import read_json
from within.perception3d.data.s3dis import table_of

PARTS: Mapping[str, range] = MappingProxyType(
    {
        "Airplane": range(4), "Bag": range(4, 6), "Cap": range(6, 8), "Car": range(8, 12),
        "Chair": range(12, 16), "Earphone": range(16, 19), "Guitar": range(19, 22), "Knife": range(22, 24),
        "Lamp": range(24, 28), "Laptop": range(28, 30), "Motorbike": range(30, 36), "Mug": range(36, 38),
        "Pistol": range(38, 41), "Rocket": range(41, 44), "Skateboard": range(44, 47), "Table": range(47, 50),
    }
)  # fmt: skip
CATEGORIES = tuple(PARTS)
SPLITS: Mapping[str, tuple[str, ...]] = {"train": ("train", "val"), "val": ("val",), "test": ("test",)}
JITTER, MOST_JITTER = 0.01, 0.05  # of an object in the unit ball


@dataclass(frozen=True, eq=False)
class Shape:
    """One object.

    Attributes:
        points: x, y, z in the unit ball about their mean, and the normal.
        labels: part of each point, among all 50.
        category: number in `CATEGORIES`.
    """

    points: Float32[np.ndarray, "points 6"]
    labels: Int64[np.ndarray, " points"]
    category: int

    def features(self, *, normals: bool = True) -> Float32[np.ndarray, "channels points"]:
        """Returns coordinates, normals where wanted, and the category as one hot, for every point."""
        own = self.points if normals else self.points[:, :3]
        hot = np.zeros((len(own), len(CATEGORIES)), np.float32)
        hot[:, self.category] = 1
        return np.ascontiguousarray(np.concatenate([own, hot], axis=1).T)


class ShapeNetParts:
    """Items (features (channels, points), parts (points)), with points drawn anew each time.

    Arguments:
        root: folder of the data set.
        split: "train" (training and validation files, as results are published), "val" or "test".
        points: drawn for an item, with repetition.
        normals: give them as features.
        jitter: move every coordinate by Gaussian noise, for training.

    Raises:
        WithinError: when a list is missing or names a category that there is not.
    """

    def __init__(
        self, root: str | Path, split: str = "train", *, points: int = 2048, normals: bool = True, jitter: bool = False
    ) -> None:
        if split not in SPLITS:
            raise WithinError(f"There is no split {split!r} of ShapeNet's parts", todo="choose train, val or test")
        self.points, self.normals, self.jitter = points, normals, jitter
        folders = _folders(Path(root))
        self.files: list[tuple[Path, int]] = []
        for name in SPLITS[split]:
            path = Path(root) / "train_test_split" / f"shuffled_{name}_file_list.json"
            for line in read_json(path):
                parts = str(line).split("/")
                if len(parts) < 2 or parts[-2] not in folders:
                    raise WithinError(f"{line!r} is of no known category", where=str(path))
                self.files.append((Path(root) / parts[-2] / f"{parts[-1]}.txt", folders[parts[-2]]))
        if not self.files:
            raise WithinError(f"The split {split!r} has no objects", where=str(root))
        self._shapes: dict[int, Shape] = {}

    def __len__(self) -> int:
        return len(self.files)

    def item_name(self, index: int) -> str:
        """Returns the file of an object."""
        return str(self.files[index][0])

    def shape(self, index: int) -> Shape:
        """Returns a whole object, read once."""
        if index not in self._shapes:
            self._shapes[index] = read_shape(*self.files[index])
        return self._shapes[index]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns the features and parts of points of an object."""
        shape = self.shape(index)
        chosen = np.random.choice(len(shape.labels), self.points, replace=True)
        features = shape.features(normals=self.normals)[:, chosen]
        if self.jitter:
            noise = (JITTER * np.random.randn(3, self.points)).clip(-MOST_JITTER, MOST_JITTER)
            features[:3] += noise.astype(np.float32)
        return torch.from_numpy(features), torch.from_numpy(shape.labels[chosen])


def read_shape(path: str | Path, category: int) -> Shape:
    """Returns an object, moved and scaled into the unit ball.

    Raises:
        WithinError: when the file is missing, has not seven columns, NaN, or a part of another category.
    """
    table = table_of(Path(path), 7)
    parts = PARTS[CATEGORIES[category]]
    labels = table[:, 6].astype(np.int64)
    if not len(labels) or labels.min() < parts.start or labels.max() >= parts.stop:
        raise WithinError(
            f"A part is outside {parts.start} to {parts.stop - 1}, those of {CATEGORIES[category]}", where=str(path)
        )
    points = table[:, :6].astype(np.float32)
    points[:, :3] -= points[:, :3].mean(0)
    farthest = np.linalg.norm(points[:, :3], axis=1).max()
    points[:, :3] /= farthest if farthest > 0 else 1
    return Shape(points, labels, category)


def _folders(root: Path) -> dict[str, int]:
    """Returns the category of each folder, numbered as in `CATEGORIES`."""
    path = root / "synsetoffset2category.txt"
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise WithinError(
            f"The list of categories could not be read ({error})", where=str(path),
            todo="give the folder shapenetcore_partanno_segmentation_benchmark_v0_normal",
        ) from error  # fmt: skip
    found = {}
    for number, words in enumerate(lines, start=1):
        if len(words) != 2 or words[0] not in PARTS:
            raise WithinError(f"{' '.join(words)!r} is no category and its folder", where=f"{path}, line {number}")
        found[words[1]] = CATEGORIES.index(words[0])
    return found
