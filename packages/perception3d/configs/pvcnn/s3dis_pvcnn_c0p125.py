"""PVCNN at 0.125 of its width on S3DIS, area 5; published: 48.75 mIoU, 82.79 accuracy."""

_base_ = "_base_/s3dis.py"

name = "s3dis_pvcnn_c0p125"
network = "pvcnn_s3dis_c0p125"
