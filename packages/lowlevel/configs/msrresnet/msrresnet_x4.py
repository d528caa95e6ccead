"""MSRResNet x4, SRResNet without batch normalisation, by BasicSR's recipe."""

_base_ = ["../_base_/div2k_x4.py", "../_base_/l1_1000k.py"]
name = "msrresnet_x4"
network = "msrresnet_x4"
train = {"patch_size": 128}
seed = 0
