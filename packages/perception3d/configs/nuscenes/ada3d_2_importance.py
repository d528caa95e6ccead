"""Ada3D on nuScenes, second stage: the importance predictor alone."""

_base_ = "ada3d_1_detector.py"

name = "ada3d_nuscenes_importance"
stage = "importance"
weights = "runs/ada3d_nuscenes_detector"
arguments = dict(places=((1, 3), (1, 3)))
schedule = dict(epochs=8, division=3.0)
validation_split = None
