"""IMDN x3; all else as for x2."""

_base_ = "imdn_x2.py"
name = "imdn_x3"
network = "imdn_x3"
train = {"lq": "DIV2K/DIV2K_train_LR_bicubic/X3_sub"}
validation = {"lq": "Set5/LRbicx3"}
