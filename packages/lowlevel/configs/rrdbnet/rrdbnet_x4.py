"""RRDBNet x4 (Wang et al., ESRGAN, ECCVW 2018), the PSNR-oriented stage, by BasicSR's recipe."""

_base_ = ["../_base_/div2k_x4.py", "../_base_/l1_1000k.py"]
name = "rrdbnet_x4"
network = "rrdbnet_x4"
train = {"patch_size": 128}
ema = None
seed = 0
