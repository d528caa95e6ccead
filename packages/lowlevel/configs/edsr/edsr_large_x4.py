"""EDSR x4 with 32 blocks of 256 channels, by BasicSR's recipe."""

_base_ = "edsr_baseline_x4.py"
name = "edsr_large_x4"
network = "edsr_large_x4"
