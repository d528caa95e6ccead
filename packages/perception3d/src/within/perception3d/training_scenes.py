"""Scenes as batches of voxels with padded boxes, which is what detectors are trained and run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from within.core.errors import WithinError
from within.perception3d.data.scene import Scene, Scenes
from within.perception3d.scene_augmentation import Augmentation, ObjectSamples, augment
from within.perception3d.voxels import VoxelGrid, voxelise

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
Target = tuple[Tensor, Tensor]


def network_inputs(clouds: Sequence[np.ndarray], grid: VoxelGrid, columns: int | None = None) -> Inputs:
    """Returns what `Detector` takes: points of each voxel, their counts, places, and the voxels of each cloud.

    Arguments:
        clouds: (points, columns) of each.
        grid: of the voxels.
        columns: of a point that are used; all by default.

    Raises:
        WithinError: when a cloud has no point in the region, or too few columns.
    """
    if columns is not None and any(cloud.shape[1] < columns for cloud in clouds):
        raise WithinError(f"The points have {clouds[0].shape[1]} columns, the network takes {columns}")
    voxels = [voxelise(cloud[:, :columns], grid) for cloud in clouds]
    return (
        torch.from_numpy(np.concatenate([each.points for each in voxels])),
        torch.from_numpy(np.concatenate([each.counts for each in voxels])),
        torch.from_numpy(np.concatenate([each.places for each in voxels])),
        torch.tensor([len(each.counts) for each in voxels]),
    )


def padded_boxes(scenes: Sequence[Scene], classes: Sequence[str], values: int) -> Target:
    """Returns boxes (batch, objects, values) and labels (batch, objects), -1 after the last.

    Arguments:
        scenes: whose objects of these classes are taken.
        classes: by label.
        values: numbers of a box; 9 with velocities.
    """
    kept = [[row for row, name in enumerate(scene.classes) if name in classes] for scene in scenes]
    most = max(1, *(len(rows) for rows in kept))
    boxes, labels = np.zeros((len(scenes), most, values), np.float32), np.full((len(scenes), most), -1)
    for sample, (scene, rows) in enumerate(zip(scenes, kept, strict=True)):
        found = scene.boxes[rows][:, :values]
        boxes[sample, : len(rows), : found.shape[1]] = found
        labels[sample, : len(rows)] = [classes.index(scene.classes[row]) for row in rows]
    return torch.from_numpy(boxes), torch.from_numpy(labels)


@dataclass(eq=False)
class TrainingScenes:
    """A source of training batches for `within.core.train.fit`.

    Attributes:
        scenes: of a data set.
        grid: of the voxels; boxes whose middle is outside of its region are left out.
        classes: that are learned, by label.
        augmentation: how scenes are changed; None leaves them.
        samples: objects that may be put in.
        values: numbers of a box.
        columns: of a point that are used.
        keep: remember scenes once they were read; takes memory.
    """

    scenes: Scenes
    grid: VoxelGrid
    classes: Sequence[str]
    augmentation: Augmentation | None = None
    samples: ObjectSamples | None = None
    values: int = 7
    columns: int | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        self._kept: dict[int, Scene] = {}

    def __len__(self) -> int:
        return len(self.scenes)

    def item_name(self, index: int) -> str:
        """Returns the name of a scene, for errors."""
        return self._scene(index).name

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Inputs, Target]:
        """Returns voxels and boxes of the scenes.

        Raises:
            WithinError: when a file is missing or damaged, or a scene has no point in the region.
        """
        changed = []
        for index in indices.tolist():
            scene = self._scene(index)
            if self.augmentation is not None:
                seed = int(torch.randint(2**62, (), generator=generator))
                scene = augment(scene, self.augmentation, np.random.default_rng(seed), self.samples)
            changed.append(within_region(scene, self.grid))
        inputs = network_inputs([scene.points for scene in changed], self.grid, self.columns)
        return inputs, padded_boxes(changed, self.classes, self.values)

    def _scene(self, index: int) -> Scene:
        if index in self._kept:
            return self._kept[index]
        scene = self.scenes.scene(index)
        if self.keep:
            self._kept[index] = scene
        return scene


def within_region(scene: Scene, grid: VoxelGrid) -> Scene:
    """Returns a scene without the boxes whose middle is outside of a region."""
    low, high = np.array(grid.low), np.array(grid.high)
    kept = ((scene.boxes[:, :2] >= low[:2]) & (scene.boxes[:, :2] < high[:2])).all(1)
    names = tuple(name for name, inside in zip(scene.classes, kept, strict=True) if inside)
    return Scene(scene.name, scene.points, scene.boxes[kept], names)
