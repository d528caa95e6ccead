"""CenterPoint on nuScenes, voxels of 0.075 m; published in Ada3D: 59.22 mAP, 66.48 NDS on val."""

_base_ = "../_base_/nuscenes_20_epochs.py"

name = "center_point_nuscenes_0075"
network = "center_point_nuscenes_0075"
