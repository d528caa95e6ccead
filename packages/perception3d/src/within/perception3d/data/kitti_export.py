"""KITTI's folder as the information files that the two public tool boxes train from.

frames = find_kitti("kitti", "train")
write_info_list("kitti_infos_train.pkl", openpcdet_infos(frames))                    OpenPCDet
write_info_file("kitti_infos_train.pkl", openpcdet_to_v2(openpcdet_infos(frames)))   MMDetection3D
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from within.perception3d.boxes import in_box
from within.perception3d.data.kitti import KittiFrames
from within.perception3d.data.kitti_calibration import KittiCalibration
from within.perception3d.data.kitti_labels import KittiObjects

LEVELS = ((40.0, 0, 0.15), (25.0, 1, 0.30), (25.0, 2, 0.50))  # height above, occlusion and truncation up to


def openpcdet_infos(frames: KittiFrames) -> list[dict[str, Any]]:
    """Returns the frames as OpenPCDet lists them; see `openpcdet_to_v2` for MMDetection3D.

    Arguments:
        frames: whose labels are there; points of boxes are counted among those that the frames keep.

    Raises:
        WithinError: when a file is missing or damaged.
    """
    return [_frame(frames, index) for index in range(len(frames))]


def difficulties(objects: KittiObjects) -> NDArray[np.int64]:
    """Returns 0 (easy), 1, 2 or -1 (none of them) of each object."""
    height = objects.image_boxes[:, 3] - objects.image_boxes[:, 1]
    found = np.full(len(objects), -1)
    known = np.array([name != "DontCare" for name in objects.names], bool)
    for level in (2, 1, 0):
        least, occlusion, truncation = LEVELS[level]
        found[known & (height > least) & (objects.occluded <= occlusion) & (objects.truncated <= truncation)] = level
    return found


def _frame(frames: KittiFrames, index: int) -> dict[str, Any]:
    calibration, objects, scene = frames.calibration(index), frames.labels(index), frames.scene(index)
    known = [row for row, name in enumerate(objects.names) if name != "DontCare"]
    rest = [row for row, name in enumerate(objects.names) if name == "DontCare"]
    ordered = objects.take(known + rest)
    counts = [int(in_box(scene.points[:, :3], box).sum()) for box in scene.boxes]
    return {
        "point_cloud": {"num_features": 4, "lidar_idx": frames.names[index]},
        "image": {"image_idx": frames.names[index], "image_shape": np.array(frames.image_size(index), np.int32)},
        "calib": _matrices(calibration),
        "annos": {
            "name": np.array(ordered.names),
            "truncated": ordered.truncated,
            "occluded": ordered.occluded,
            "alpha": ordered.alpha,
            "bbox": ordered.image_boxes,
            "dimensions": ordered.sizes,
            "location": ordered.locations,
            "rotation_y": ordered.rotations,
            "score": np.full(len(ordered), -1.0),
            "difficulty": difficulties(ordered).astype(np.int32),
            "index": np.array([*range(len(known)), *([-1] * len(rest))], np.int32),
            "gt_boxes_lidar": scene.boxes,
            "num_points_in_gt": np.array([*counts, *([-1] * len(rest))], np.int32),
        },
    }


def _matrices(calibration: KittiCalibration) -> dict[str, NDArray[np.float64]]:
    found = {
        "P2": calibration.projection,
        "R0_rect": calibration.rectification,
        "Tr_velo_to_cam": calibration.to_camera,
    }
    whole = {}
    for name, matrix in found.items():
        square = np.eye(4)
        square[: matrix.shape[0], : matrix.shape[1]] = matrix
        whole[name] = square
    return whole
