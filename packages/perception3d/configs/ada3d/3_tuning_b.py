"""Ada3D-B, third stage: trained on while places are dropped; published: 66.1 mAP on val."""

_base_ = "2_importance.py"

name = "ada3d_b"
stage = "tuning"
weights = "runs/ada3d_importance"
arguments = dict(drop_rates=dict(voxels={"1": 0.75, "3": 0.75}, pixels={"1": 0.5, "3": 0.5}))
schedule = dict(epochs=40, division=1.0)
validation_split = "val"
