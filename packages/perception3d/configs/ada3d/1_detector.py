"""Ada3D, first stage: CenterPoint with SP-BN on KITTI; published: 66.0 mAP on val."""

_base_ = "../_base_/kitti_80_epochs.py"

name = "ada3d_detector"
network = "center_point_kitti"
arguments = dict(norm="spatial_sparse", execution="sparse")
