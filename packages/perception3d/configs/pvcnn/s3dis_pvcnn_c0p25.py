"""PVCNN at 0.25 of its width on S3DIS, area 5; published: 53.08 mIoU, 85.00 accuracy."""

_base_ = "_base_/s3dis.py"

name = "s3dis_pvcnn_c0p25"
network = "pvcnn_s3dis_c0p25"
