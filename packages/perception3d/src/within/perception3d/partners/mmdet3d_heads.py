"""Heads of MMDetection3D's models, read as arguments of ours, and how their boxes are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from within.core.errors import WithinError
from within.perception3d.center_decoding import Decoding
from within.perception3d.partners.mmdet3d_parts import Part, expect, plain

REGRESSION = {"reg": [2, 2], "height": [1, 2], "dim": [3, 2], "rot": [2, 2]}
VELOCITY = {"vel": [2, 2]}


def center_arguments(head: Part, test: Mapping[str, Any]) -> tuple[dict[str, Any], Decoding | None]:
    """Returns the arguments of a `CenterHead`, and its decoding.

    Raises:
        WithinError: when the head is built in another way than ours.
    """
    found, where = head.value, head.where
    separate = found.get("separate_head") or {}
    expect(separate, "type", ("SeparateHead",), f"{where}, separate_head")
    expect(separate, "final_kernel", (3,), f"{where}, separate_head", 1)
    expect(found, "num_heatmap_convs", (2,), where, 2)
    expect(found, "norm_bbox", (True,), where, True)
    expect(found, "bias", ("auto", False), where, "auto")
    branches = {name: plain(size) for name, size in (found.get("common_heads") or {}).items()}
    if branches not in (REGRESSION, REGRESSION | VELOCITY):
        raise WithinError(f"The branches are {branches}", where=where, todo=f"choose {REGRESSION}, with vel or without")
    width = int(found.get("share_conv_channel", 64))
    if width != 64:  # that of its branches, which cannot be set there
        raise WithinError(f"The shared convolution is {width} wide, its branches 64; ours are equal", where=where)
    arguments = {
        "tasks": [plain(task["class_names"]) for task in found["tasks"]],
        "head_width": width,
        "head_bias": False,
        "velocity": "vel" in branches,
    }
    coder = found.get("bbox_coder") or {}
    if test.get("nms_type", "rotate") != "rotate" or "nms_thr" not in test:
        return arguments, None
    limits = test.get("post_center_limit_range") or coder.get("post_center_range")
    return arguments, Decoding(
        most=int(coder.get("max_num", 100)),
        least_score=float(test.get("score_threshold", 0.0)),
        limits=tuple(limits) if limits else None,  # type: ignore[arg-type]
        overlap=float(test["nms_thr"]),
        before=int(test.get("pre_max_size", 1000)),
        after=int(test.get("post_max_size", 83)),
    )


def anchor_arguments(
    head: Part, model: Mapping[str, Any], grid: Mapping[str, Any], names: Sequence[str] | None
) -> tuple[dict[str, Any], Decoding | None]:
    """Returns the arguments of an `AnchorHead`, and its decoding.

    Arguments:
        head: of the model.
        model: whose settings of test and training say how boxes are read and which anchors stand for objects.
        grid: see `grid_of`.
        names: of the classes.

    Raises:
        WithinError: when the head is built in another way than ours.
    """
    found, where, test = head.value, head.where, model.get("test_cfg") or {}
    anchors, place = found.get("anchor_generator") or {}, f"{where}, anchor_generator"
    kind = expect(anchors, "type", ("Anchor3DRangeGenerator", "AlignedAnchor3DRangeGenerator"), place)
    expect(found, "use_direction_classifier", (True,), where, True)
    expect(found, "dir_limit_offset", (0,), where, 0)
    sizes, ranges = plain(anchors["sizes"]), plain(anchors["ranges"])
    ranges = ranges * len(sizes) if len(ranges) == 1 else ranges
    classes = list(names or (f"class {number}" for number in range(len(sizes))))
    if len(sizes) != found["num_classes"] or len(classes) != len(sizes):
        raise WithinError(
            f"There are {len(sizes)} sizes of anchors and {found['num_classes']} classes named {classes}; ours are one "
            "of each",
            where=place,
        )
    if any(region[2] != region[5] for region in ranges) or plain(anchors.get("scales", [1])) != [1]:
        raise WithinError("The anchors are not of one height and scale", where=place)
    corners = [[grid["low"][axis], grid["high"][axis]] for axis in (0, 1)]
    if any([region[0::3], region[1::3]] != corners for region in ranges):
        raise WithinError("The anchors stand on another region than the grid", where=f"{place}, ranges")
    assigners = (model.get("train_cfg") or {}).get("assigner") or {}
    limits = [assigners] * len(sizes) if isinstance(assigners, Mapping) else list(assigners)
    arguments = {
        "anchor_classes": [
            {
                "name": name,
                "size": size,
                "bottom": region[2],
                "matched": float(limit.get("pos_iou_thr", 0.6)),
                "unmatched": float(limit.get("neg_iou_thr", 0.45)),
            }
            for name, size, region, limit in zip(classes, sizes, ranges, limits, strict=True)
        ],
        "angles": plain(anchors.get("rotations", (0, 1.5707963))),
        "aligned": kind.startswith("Aligned"),
        "direction_offset": float(found.get("dir_offset", -math.pi / 2)),
    }
    if not test or not test.get("use_rotate_nms", True):
        return arguments, None
    before = int(test.get("nms_pre", 100))
    return arguments, Decoding(
        most=before,
        least_score=float(test.get("score_thr", 0.0)),
        overlap=float(test["nms_thr"]),
        before=before,
        after=int(test.get("max_num", 50)),
        by_class=True,
    )
