"""EDSR x2 with 32 blocks of 256 channels, by BasicSR's recipe."""

_base_ = "edsr_baseline_x2.py"
name = "edsr_large_x2"
network = "edsr_large_x2"
