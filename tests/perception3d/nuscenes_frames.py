"""Random ground truth and detections of nuScenes' ten classes: some found, some missed, some made up, some ties."""

from __future__ import annotations

import numpy as np

from within.perception3d.data.lidar_objects import LidarObjects, lidar_objects
from within.perception3d.metrics.nuscenes_detection import RANGES

ATTRIBUTES = {
    "car": ("vehicle.moving", "vehicle.parked", "vehicle.stopped"),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
    "bicycle": ("cycle.with_rider", "cycle.without_rider"),
}


def random_frames(seed: int, count: int, *, ties: bool = False) -> tuple[list[LidarObjects], list[LidarObjects]]:
    """Returns ground truth and detections of `count` frames; with `ties`, scores have one decimal."""
    generator = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        size = int(generator.integers(0, 40))
        names = generator.choice(list(RANGES), size)
        boxes = np.concatenate(
            [
                generator.uniform(-45, 45, (size, 2)),
                generator.uniform(-2, 0, (size, 1)),
                generator.uniform(0.5, 5, (size, 3)),
                generator.uniform(-7, 7, (size, 1)),
            ],
            axis=1,
        )
        velocities = generator.normal(0, 3, (size, 2))
        velocities[generator.random(size) < 0.1] = np.nan
        attributes = [str(generator.choice((*ATTRIBUTES.get(name, ()), ""))) for name in names]
        truth.append(
            lidar_objects(
                names.tolist(),
                boxes,
                velocities=velocities,
                attributes=attributes,
                point_counts=generator.integers(0, 20, size),
            )
        )
        seen = generator.random(size) < 0.7
        extra = int(generator.integers(0, 12))
        more = generator.integers(0, max(size, 1), extra if size else 0)
        rows = np.concatenate([np.flatnonzero(seen), more])
        moved = boxes[rows]
        far = generator.choice((0.2, 0.7, 1.5, 5.0), (len(rows), 1))
        moved[:, :2] += generator.normal(0, 1, (len(rows), 2)) * far
        moved[:, 3:6] *= generator.uniform(0.7, 1.3, (len(rows), 3))
        moved[:, 6] += generator.normal(0, 0.5, len(rows))
        found.append(
            lidar_objects(
                names[rows].tolist(),
                moved,
                velocities=np.nan_to_num(velocities[rows]) + generator.normal(0, 0.5, (len(rows), 2)),
                attributes=[
                    attributes[row] if generator.random() < 0.8 else str(generator.choice(("", "vehicle.parked")))
                    for row in rows
                ],
                scores=np.round(generator.uniform(0.05, 1, len(rows)), 1 if ties else 6),
            )
        )
    return truth, found
