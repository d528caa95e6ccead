"""Super-resolution x3 on DIV2K cut into sub-images, Set5 as validation: BasicSR's data preparation."""

_base_ = "div2k_x2.py"
train = {"lq": "DIV2K/DIV2K_train_LR_bicubic/X3_sub", "patch_size": 144}
validation = {"lq": "Set5/LRbicx3"}
