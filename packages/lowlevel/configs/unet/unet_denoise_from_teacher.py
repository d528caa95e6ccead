"""Learns a denoiser from a larger one on noisy photographs without clean partners: no label, no loss but the
teacher.
"""

_base_ = "unet_denoise.py"
name = "unet_denoise_from_teacher"
arguments = {"widths": (8, 16, 24, 32)}
train = {"gt": None, "lq": "noisy_photographs", "sigma": None}
validation = None
loss = None
teacher = {"network": "unet_denoise", "weights": "unet_denoise.safetensors", "distance": "l1"}
