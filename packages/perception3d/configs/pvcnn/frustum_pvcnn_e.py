"""Frustum PVCNN-E on KITTI; published: 72.12 / 61.24 / 57.45 moderate AP of Car / Pedestrian / Cyclist."""

_base_ = "_base_/frustum.py"

name = "frustum_pvcnn_e"
network = "frustum_pvcnn_e"
