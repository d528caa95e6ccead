"""Frustum PointNet on KITTI; published: 71.63 / 56.90 / 56.46 moderate AP of Car / Pedestrian / Cyclist."""

_base_ = "_base_/frustum.py"

name = "frustum_pointnet"
network = "frustum_pointnet"
schedule = dict(decay="steps", milestones=tuple(range(25, 209, 25)))
