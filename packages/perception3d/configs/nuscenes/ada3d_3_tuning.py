"""Ada3D on nuScenes, third stage; published: 58.62 mAP, 65.68 NDS on val at 3.34 times fewer FLOPs."""

_base_ = "ada3d_2_importance.py"

name = "ada3d_nuscenes"
stage = "tuning"
weights = "runs/ada3d_nuscenes_importance"
arguments = dict(drop_rates=dict(voxels={"1": 0.75, "3": 0.75}, pixels={"1": 0.5, "3": 0.5}))
schedule = dict(epochs=10, division=1.0)
validation_split = "val"
