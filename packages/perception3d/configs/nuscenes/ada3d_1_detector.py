"""Ada3D on nuScenes, first stage: CenterPoint with SP-BN, voxels of 0.075 m."""

_base_ = "center_point_0075.py"

name = "ada3d_nuscenes_detector"
arguments = dict(norm="spatial_sparse", execution="sparse")
