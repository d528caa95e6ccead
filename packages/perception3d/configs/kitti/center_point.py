"""CenterPoint on KITTI, the base of Ada3D; published in Ada3D: 66.1 mAP on val (3-D, moderate, 40 recalls)."""

_base_ = "../_base_/kitti_80_epochs.py"

name = "center_point_kitti"
network = "center_point_kitti"
