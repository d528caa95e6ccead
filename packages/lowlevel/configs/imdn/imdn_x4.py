"""IMDN x4; all else as for x2."""

_base_ = "imdn_x2.py"
name = "imdn_x4"
network = "imdn_x4"
train = {"lq": "DIV2K/DIV2K_train_LR_bicubic/X4_sub"}
validation = {"lq": "Set5/LRbicx4"}
