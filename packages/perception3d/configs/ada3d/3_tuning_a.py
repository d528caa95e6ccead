"""Ada3D-A, third stage: trained on while places are dropped; published: 66.4 mAP on val. No voxels are dropped."""

_base_ = "2_importance.py"

name = "ada3d_a"
stage = "tuning"
weights = "runs/ada3d_importance"
arguments = dict(drop_rates=dict(pixels={"1": 0.5, "3": 0.5}))
schedule = dict(epochs=40, division=1.0)
validation_split = "val"
