"""EDSR x3 with 32 blocks of 256 channels, by BasicSR's recipe."""

_base_ = "edsr_baseline_x3.py"
name = "edsr_large_x3"
network = "edsr_large_x3"
