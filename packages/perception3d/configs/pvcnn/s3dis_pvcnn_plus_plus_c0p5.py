"""PVCNN++ at 0.5 of its width on S3DIS, area 5; published: 58.30 mIoU, 86.88 accuracy."""

_base_ = "_base_/s3dis.py"

name = "s3dis_pvcnn_plus_plus_c0p5"
network = "pvcnn_plus_plus_s3dis_c0p5"
