"""DnCNN-B, blind to the noise level: 20 layers, sigma drawn from 0 to 55 for each patch of 50."""

_base_ = "dncnn_s25.py"
name = "dncnn_b"
network = "dncnn_b"
train = {"sigma": (0, 55), "patch_size": 50}
