"""Anchors: targets are read back as the boxes they were made of, and the losses go down to nothing on them."""

from __future__ import annotations

import math

import pytest
import torch

from within.perception3d.anchor_loss import anchor_loss, decode_anchors, focal_terms
from within.perception3d.anchor_targets import BACKGROUND, anchor_targets, decode, encode, nearest_overlaps
from within.perception3d.center_decoding import Decoding
from within.perception3d.models.anchor_head import KITTI_ANCHORS, anchors

PLACE = anchors(KITTI_ANCHORS, (40, 50), (0, -8, -3), (20, 8, 1))
BOXES = torch.tensor(
    [
        [4.1, 1.3, -0.9, 3.9, 1.6, 1.5, 0.1],
        [10.05, -5.5, 0.2, 0.8, 0.6, 1.7, -1.6],
        [15.3, 3.3, 0.3, 1.7, 0.6, 1.7, 3.1],
        [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0],
    ]
)
LABELS = torch.tensor([0, 1, 2, -1])


def maps_of(target, scale=20.0):
    """Returns the maps of a head that has learned its targets by heart."""
    scores = torch.full((len(target.labels), 3), -scale)
    stands = target.labels >= 0
    scores[stands, target.labels[stands]] = scale
    directions = torch.nn.functional.one_hot(target.directions, 2) * 2 * scale - scale

    def as_map(rows):
        return rows.view(40, 50, -1).permute(2, 0, 1)[None].float()

    return {"heatmap": as_map(scores), "boxes": as_map(target.residuals), "directions": as_map(directions)}


def test_every_object_has_an_anchor_and_comes_back():
    target = anchor_targets(PLACE, BOXES, LABELS, KITTI_ANCHORS)
    assert {BACKGROUND, 0, 1, 2}.issubset(target.labels.tolist())
    found = decode_anchors([maps_of(target)], PLACE, 3, Decoding(most=500, overlap=0.1))[0]
    assert sorted(found.labels.tolist()) == [0, 1, 2]
    for box, label in zip(found.boxes, found.labels, strict=True):
        true = BOXES[int(label) == LABELS][0]
        torch.testing.assert_close(torch.from_numpy(box[:6]), true[:6], atol=1e-4, rtol=0)
        assert math.cos(float(box[6]) - float(true[6])) == pytest.approx(1, abs=1e-6)


def test_learned_by_heart_there_is_no_loss():
    target = anchor_targets(PLACE, BOXES, LABELS, KITTI_ANCHORS)
    losses = anchor_loss([maps_of(target)], BOXES[None], LABELS[None], PLACE, KITTI_ANCHORS)
    assert all(float(value) < 1e-4 for value in losses.values())
    wrong = maps_of(target)
    wrong["directions"] = -wrong["directions"]
    assert float(anchor_loss([wrong], BOXES[None], LABELS[None], PLACE, KITTI_ANCHORS)["directions"]) > 1


def test_a_cloud_without_objects():
    maps = {
        name: torch.zeros(1, channels, 40, 50)
        for name, channels in (("heatmap", 18), ("boxes", 42), ("directions", 12))
    }
    labels = torch.full((1, 4), -1)
    losses = anchor_loss([maps], BOXES[None], labels, PLACE, KITTI_ANCHORS)
    assert float(losses["boxes"]) == 0
    assert torch.isfinite(losses["heatmap"])


def test_residuals_and_back():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(50, 7, generator=generator) + 0.5
    other = torch.rand(50, 7, generator=generator) + 0.5
    torch.testing.assert_close(decode(encode(boxes, other), other), boxes)
    assert not encode(other, other).any()


def test_overlap_of_boxes_turned_to_the_nearest_axis():
    box = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0]])
    turned = torch.tensor([[0.0, 0, 0, 4, 2, 1, math.pi / 2], [0.0, 0, 0, 4, 2, 1, math.pi], [0.0, 0, 0, 4, 2, 1, 0.7]])
    torch.testing.assert_close(nearest_overlaps(box, turned), torch.tensor([[4 / 12, 1.0, 1.0]]))


def test_focal_terms_by_their_definition():
    scores = torch.tensor([1.3, -0.4])
    chance = torch.sigmoid(scores)
    expected = torch.stack(
        [-0.25 * (1 - chance[0]) ** 2 * chance[0].log(), -0.75 * chance[1] ** 2 * (1 - chance[1]).log()]
    )
    torch.testing.assert_close(focal_terms(scores, torch.tensor([1.0, 0.0])), expected)
