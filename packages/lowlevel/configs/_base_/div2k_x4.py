"""Super-resolution x4 on DIV2K cut into sub-images, Set5 as validation: BasicSR's data preparation."""

_base_ = "div2k_x2.py"
train = {"lq": "DIV2K/DIV2K_train_LR_bicubic/X4_sub", "patch_size": 192}
validation = {"lq": "Set5/LRbicx4"}
