"""Ada3D-C, third stage: trained on while places are dropped; published: 65.4 mAP on val.

Its shares are not published; they are fitted to the published FLOPs.
"""

_base_ = "2_importance.py"

name = "ada3d_c"
stage = "tuning"
weights = "runs/ada3d_importance"
arguments = dict(drop_rates=dict(voxels={"1": 0.62, "3": 0.62}, pixels={"1": 0.3, "3": 0.3}))
schedule = dict(epochs=40, division=1.0)
validation_split = "val"
