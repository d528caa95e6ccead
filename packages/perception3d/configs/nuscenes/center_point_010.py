"""CenterPoint on nuScenes, voxels of 0.1 m; published in Ada3D: 55.43 mAP, 64.63 NDS on val."""

_base_ = "../_base_/nuscenes_20_epochs.py"

name = "center_point_nuscenes"
network = "center_point_nuscenes"
