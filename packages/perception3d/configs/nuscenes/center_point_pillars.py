"""CenterPoint on pillars on nuScenes; published in Ada3D: 50.03 mAP, 60.70 NDS on val."""

_base_ = "../_base_/nuscenes_20_epochs.py"

name = "center_point_nuscenes_pillars"
network = "center_point_nuscenes_pillars"
