"""SECOND on KITTI; published by OpenPCDet: 78.62 / 52.98 / 67.15 on val (3-D, moderate, 11 recalls)."""

_base_ = "../_base_/kitti_80_epochs.py"

name = "second_kitti"
network = "second_kitti"
decoding = dict(most=4096, least_score=0.1, overlap=0.01, limits=None, _delete_=True)
