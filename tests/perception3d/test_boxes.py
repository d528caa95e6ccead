"""Boxes have the corners that bound them, points are inside by the box's own axes, and angles stay what they are."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from within.perception3d.boxes import around, box_corners, clipped, in_box, observation_angles, wrapped

PLACE, EXTENT, ANGLE = st.floats(-50, 50), st.floats(0.2, 20), st.floats(-10, 10)
BOX = st.tuples(PLACE, PLACE, PLACE, EXTENT, EXTENT, EXTENT, ANGLE).map(np.array)


@given(BOX, st.tuples(*[st.floats(-1, 1)] * 3))
def test_a_point_between_the_corners_is_inside(box, weights):
    corners = box_corners(box[None])[0]
    np.testing.assert_allclose(corners.mean(0), box[:3], atol=1e-9)
    edges = [corners[4] - corners[0], corners[2] - corners[0], corners[1] - corners[0]]
    np.testing.assert_allclose([np.linalg.norm(edge) for edge in edges], box[3:6], rtol=1e-9)
    np.testing.assert_allclose(edges[0][:2] / box[3], [math.cos(box[6]), math.sin(box[6])], atol=1e-9)
    point = box[:3] + sum(weight / 2 * edge for weight, edge in zip(weights, edges, strict=True))
    assert in_box(point[None], box, 1e-6).all()
    outside = box[:3] + (corners - box[:3]) * 1.001
    assert not in_box(outside, box).any()
    assert in_box(outside, box, 0.1).all()


@given(st.lists(ANGLE, min_size=1, max_size=9).map(np.array))
def test_wrapped_angles_point_the_same_way(angles):
    found = wrapped(angles)
    assert (found >= -math.pi - 1e-9).all()
    assert (found <= math.pi).all()
    np.testing.assert_allclose([np.cos(found), np.sin(found)], [np.cos(angles), np.sin(angles)], atol=1e-9)


@given(ANGLE, st.floats(-3, 3), st.floats(1, 60))
def test_alpha_does_not_change_when_a_scene_turns_about_the_camera(rotation, turn, distance):
    ahead = observation_angles(np.array([rotation]), np.array([[0.0, 1.5, distance]]))
    place = np.array([[distance * math.sin(turn), 1.5, distance * math.cos(turn)]])
    aside = observation_angles(np.array([rotation + turn]), place)
    np.testing.assert_allclose([np.cos(ahead), np.sin(ahead)], [np.cos(aside), np.sin(aside)], atol=1e-9)


def test_boxes_in_the_image_end_at_its_edge():
    places = np.array([[[-5.0, 3.0], [7.0, 90.0], [2.0, 4.0]], [[3.0, 4.0], [5.0, 6.0], [4.0, 5.0]]])
    assert around(places).tolist() == [[-5, 3, 7, 90], [3, 4, 5, 6]]
    assert clipped(around(places), (50, 6)).tolist() == [[0, 3, 5, 49], [3, 4, 5, 6]]
