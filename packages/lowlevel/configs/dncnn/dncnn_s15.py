"""DnCNN-S for Gaussian noise of sigma 15; all else as for sigma 25."""

_base_ = "dncnn_s25.py"
name = "dncnn_s15"
train = {"sigma": 15}
validation = {"protocol": "set12_sigma15_kair"}
