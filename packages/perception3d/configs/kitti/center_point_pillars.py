"""CenterPoint on pillars on KITTI; published in Ada3D: 57.39 mAP on test."""

_base_ = "../_base_/kitti_80_epochs.py"

name = "center_point_kitti_pillars"
network = "center_point_kitti_pillars"
