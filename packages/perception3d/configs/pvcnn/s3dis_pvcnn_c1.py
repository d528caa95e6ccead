"""PVCNN at 1 of its width on S3DIS, area 5; published: 56.64 mIoU, 86.47 accuracy."""

_base_ = "_base_/s3dis.py"

name = "s3dis_pvcnn_c1"
network = "pvcnn_s3dis_c1"
