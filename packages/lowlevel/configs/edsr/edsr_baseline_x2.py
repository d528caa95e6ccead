"""EDSR-baseline x2 (Lim et al., CVPRW 2017) by BasicSR's recipe."""

_base_ = ["../_base_/div2k_x2.py", "../_base_/l1_300k.py"]
name = "edsr_baseline_x2"
network = "edsr_baseline_x2"
