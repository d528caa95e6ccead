"""DnCNN-S for Gaussian noise of sigma 50; all else as for sigma 25."""

_base_ = "dncnn_s25.py"
name = "dncnn_s50"
train = {"sigma": 50}
validation = {"protocol": "set12_sigma50_kair"}
