"""RCAN x2 (Zhang et al., ECCV 2018) by BasicSR's recipe."""

_base_ = ["../_base_/div2k_x2.py", "../_base_/l1_300k.py"]
name = "rcan_x2"
network = "rcan_x2"
