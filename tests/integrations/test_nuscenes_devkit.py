"""nuScenes' detection metrics against its development kit, on random boxes; skipped where that is not installed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.perception3d.nuscenes_frames import random_frames

from within.perception3d.data.lidar_objects import LidarObjects
from within.perception3d.metrics.nuscenes_detection import DISTANCES, ERROR_DISTANCE, RANGES, nuscenes_score

pytestmark = pytest.mark.integration
KINDS = {"ATE": "trans_err", "ASE": "scale_err", "AOE": "orient_err", "AVE": "vel_err", "AAE": "attr_err"}


def kit_boxes(frames: list[LidarObjects], *, truth: bool):
    """Returns the frames in the kit's own classes, filtered by range and points as its loader does."""
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.detection.data_classes import DetectionBox

    boxes = EvalBoxes()
    for number, frame in enumerate(frames):
        kept = []
        for row, name in enumerate(frame.names):
            x, y, z, length, width, height, yaw = (float(value) for value in frame.boxes[row])
            box = DetectionBox(
                sample_token=str(number),
                translation=(x, y, z),
                size=(width, length, height),
                rotation=(math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)),
                velocity=tuple(frame.velocities[row]),
                ego_translation=(x, y, z),
                num_pts=int(frame.point_counts[row]),
                detection_name=name,
                detection_score=-1.0 if truth else float(frame.scores[row]),
                attribute_name=frame.attributes[row],
            )
            if box.ego_dist < RANGES[name] and box.num_pts != 0:
                kept.append(box)
        boxes.add_boxes(str(number), kept)
    return boxes


@pytest.mark.parametrize(("seed", "count", "ties"), [(0, 1, False), (1, 8, False), (2, 60, False), (3, 30, True)])
def test_every_figure_is_that_of_the_kit(seed, count, ties):
    """Would catch any difference in matching, order of ties, interpolation, running means or what is left out."""
    pytest.importorskip("nuscenes")
    from nuscenes.eval.common.utils import center_distance
    from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp
    from nuscenes.eval.detection.config import config_factory
    from nuscenes.eval.detection.data_classes import DetectionMetrics

    truth, found = random_frames(seed, count, ties=ties)
    ours = nuscenes_score(truth, found)
    settings = config_factory("detection_cvpr_2019")
    assert settings.class_range == RANGES
    metrics = DetectionMetrics(settings)
    real, detected = kit_boxes(truth, truth=True), kit_boxes(found, truth=False)
    for name in settings.class_names:
        for distance in DISTANCES:
            curve = accumulate(real, detected, name, center_distance, distance)
            precision = calc_ap(curve, settings.min_recall, settings.min_precision)
            metrics.add_label_ap(name, distance, precision)
            assert ours.precisions[name, distance] == pytest.approx(precision, abs=1e-12), (name, distance)
            if distance != ERROR_DISTANCE:
                continue
            for kind, theirs in KINDS.items():
                value = calc_tp(curve, settings.min_recall, theirs) if (name, kind) in ours.class_errors else np.nan
                metrics.add_label_tp(name, theirs, value)
                if (name, kind) in ours.class_errors:
                    assert ours.class_errors[name, kind] == pytest.approx(value, abs=1e-9), (name, kind)
    assert ours.mean_precision == pytest.approx(metrics.mean_ap, abs=1e-12)
    assert ours.score == pytest.approx(metrics.nd_score, abs=1e-9)
    for kind, theirs in KINDS.items():
        assert ours.errors[kind] == pytest.approx(metrics.tp_errors[theirs], abs=1e-9)
