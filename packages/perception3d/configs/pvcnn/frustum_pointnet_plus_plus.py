"""Frustum PointNet++ on KITTI; published: 71.99 / 60.03 / 56.74 moderate AP of Car / Pedestrian / Cyclist."""

_base_ = "_base_/frustum.py"

name = "frustum_pointnet_plus_plus"
network = "frustum_pointnet_plus_plus"
schedule = dict(batch_size=24)
