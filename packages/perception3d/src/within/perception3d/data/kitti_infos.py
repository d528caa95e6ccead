"""KITTI's frames as the two public tool boxes store them, as `KittiObjects` and `KittiCalibration`, and converted.

Infos v2 keep boxes in the camera's frame: x, y and z of the bottom, length, height, width, rotation about y; classes
are numbers, -1 for DontCare. OpenPCDet keeps a table for each column of a label file, and 4 x 4 matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from within.core.errors import WithinError
from within.perception3d.data.checked import entry, table
from within.perception3d.data.info_files import VERSION, InfoFile
from within.perception3d.data.kitti_calibration import KittiCalibration
from within.perception3d.data.kitti_labels import KittiObjects

CATEGORIES = {
    name: number
    for number, name in enumerate(
        ("Pedestrian", "Cyclist", "Car", "Van", "Truck", "Person_sitting", "Tram", "Misc", "DontCare")
    )
} | {"DontCare": -1}


def kitti_objects(infos: InfoFile, index: int) -> KittiObjects:
    """Returns the objects of a frame of infos v2, without the DontCare regions that have no box in space.

    Raises:
        WithinError: when there is no such frame, or something is missing in it.
    """
    frame, names = _frame(infos, index), infos.names
    rows, found = [], []
    for number, instance in enumerate(entry(frame, "instances", f"frame {index}")):
        where = f"frame {index}, instance {number}"
        label = int(entry(instance, "bbox_label_3d", where))
        if label == -1:
            continue
        if label not in names:
            raise WithinError(f"The class {label} has no name", where=where)
        box = table(entry(instance, "bbox_3d", where), (7,), "bbox_3d", where)
        image = table(entry(instance, "bbox", where), (4,), "bbox", where)
        rest = [float(entry(instance, key, where)) for key in ("truncated", "occluded", "alpha")]
        found.append(names[label])
        rows.append([*rest, *image, *box])
    values = np.array(rows, np.float64).reshape(-1, 14)
    return KittiObjects(
        tuple(found),
        values[:, 0],
        values[:, 1],
        values[:, 2],
        values[:, 3:7],
        values[:, 10:13],
        values[:, 7:10],
        values[:, 13],
    )


def kitti_calibration(infos: InfoFile, index: int) -> KittiCalibration:
    """Returns the matrices of a frame of infos v2.

    Raises:
        WithinError: when there is no such frame, or a matrix is missing or of another size.
    """
    frame, where = _frame(infos, index), f"frame {index}"
    images = entry(frame, "images", where)
    projection = table(entry(entry(images, "CAM2", where), "cam2img", where), (4, 4), "cam2img", where)
    rectification = table(entry(images, "R0_rect", where), (4, 4), "R0_rect", where)
    points = entry(frame, "lidar_points", where)
    to_camera = table(entry(points, "Tr_velo_to_cam", where), (4, 4), "Tr_velo_to_cam", where)
    return KittiCalibration(projection[:3], rectification[:3, :3], to_camera[:3])


def openpcdet_to_v2(frames: Sequence[Mapping[str, Any]]) -> InfoFile:
    """Returns OpenPCDet's frames of KITTI as infos v2.

    Arguments:
        frames: as `read_info_list` returns them.

    Raises:
        WithinError: when something is missing in a frame.
    """
    converted = tuple(_converted(frame, f"frame {number}") for number, frame in enumerate(frames))
    return InfoFile("kitti", CATEGORIES, converted, {"info_version": VERSION})


def _converted(frame: Mapping[str, Any], where: str) -> dict[str, Any]:
    points, image, calibration = (entry(frame, key, where) for key in ("point_cloud", "image", "calib"))
    number = str(entry(points, "lidar_idx", where))
    projection, rectification, to_camera = (
        table(entry(calibration, key, where), (4, 4), key, where) for key in ("P2", "R0_rect", "Tr_velo_to_cam")
    )
    height, width = table(entry(image, "image_shape", where), (2,), "image_shape", where).astype(int).tolist()
    return {
        "sample_idx": int(entry(image, "image_idx", where)),
        "images": {
            "CAM2": {
                "img_path": f"{number}.png",
                "height": height,
                "width": width,
                "cam2img": projection.tolist(),
                "lidar2cam": (rectification @ to_camera).tolist(),
                "lidar2img": (projection @ rectification @ to_camera).tolist(),
            },
            "R0_rect": rectification.tolist(),
        },
        "lidar_points": {
            "num_pts_feats": int(entry(points, "num_features", where)),
            "lidar_path": f"{number}.bin",
            "Tr_velo_to_cam": to_camera.tolist(),
        },
        "instances": _instances(frame["annos"], f"{where}, annos") if "annos" in frame else [],
    }


def _instances(annotations: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    names = [str(name) for name in entry(annotations, "name", where)]
    count = len(names)
    shapes = {
        "truncated": (count,), "occluded": (count,), "alpha": (count,), "bbox": (count, 4), "dimensions": (count, 3),
        "location": (count, 3), "rotation_y": (count,), "difficulty": (count,),
    }  # fmt: skip
    columns = {key: table(entry(annotations, key, where), shape, key, where) for key, shape in shapes.items()}
    points = np.asarray(annotations.get("num_points_in_gt", np.full(count, -1)))
    found = []
    for row, name in enumerate(names):
        if name not in CATEGORIES:
            raise WithinError(f"{name!r} is no class of KITTI", where=where)
        box = [*columns["location"][row], *columns["dimensions"][row], columns["rotation_y"][row]]
        found.append(
            {
                "bbox": columns["bbox"][row].tolist(),
                "bbox_label": CATEGORIES[name],
                "bbox_3d": [float(value) for value in box],
                "bbox_label_3d": CATEGORIES[name],
                "num_lidar_pts": int(points[row]) if row < len(points) else -1,  # OpenPCDet counts none for DontCare
                "difficulty": int(columns["difficulty"][row]),
                "truncated": float(columns["truncated"][row]),
                "occluded": int(columns["occluded"][row]),
                "alpha": float(columns["alpha"][row]),
                "score": 0.0,
                "index": row if name != "DontCare" else -1,
                "group_id": row,
            }
        )
    return found


def _frame(infos: InfoFile, index: int) -> dict[str, Any]:
    if not 0 <= index < len(infos.frames):
        raise WithinError(f"There is no frame {index} among {len(infos.frames)}")
    return infos.frames[index]
