"""Ada3D, second stage: the importance predictor alone, nothing dropped, the detector of the first stage as it is."""

_base_ = "1_detector.py"

name = "ada3d_importance"
stage = "importance"
weights = "runs/ada3d_detector"
arguments = dict(places=((1, 3), (1, 3)))
schedule = dict(epochs=30, division=3.0)
validation_split = None
