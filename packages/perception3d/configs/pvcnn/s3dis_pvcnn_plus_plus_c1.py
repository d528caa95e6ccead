"""PVCNN++ at 1 of its width on S3DIS, area 5; published: 59.02 mIoU, 87.48 accuracy."""

_base_ = "_base_/s3dis.py"

name = "s3dis_pvcnn_plus_plus_c1"
network = "pvcnn_plus_plus_s3dis_c1"
