"""EDSR-baseline x3 (Lim et al., CVPRW 2017) by BasicSR's recipe."""

_base_ = ["../_base_/div2k_x3.py", "../_base_/l1_300k.py"]
name = "edsr_baseline_x3"
network = "edsr_baseline_x3"
