"""PVCNN at 0.5 of its width on S3DIS, area 5."""

_base_ = "_base_/s3dis.py"

name = "s3dis_pvcnn_c0p5"
network = "pvcnn_s3dis_c0p5"
