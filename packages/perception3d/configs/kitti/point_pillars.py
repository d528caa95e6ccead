"""PointPillars on KITTI; published by OpenPCDet: 77.28 / 52.29 / 62.68 on val (3-D, moderate, 11 recalls)."""

_base_ = "../_base_/kitti_80_epochs.py"

name = "point_pillars_kitti"
network = "point_pillars_kitti"
decoding = dict(most=4096, least_score=0.1, overlap=0.01, limits=None, _delete_=True)
