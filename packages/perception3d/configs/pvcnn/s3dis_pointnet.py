"""PointNet on S3DIS, area 5; published: 42.97 mIoU, 82.54 accuracy."""

_base_ = "_base_/s3dis.py"

name = "s3dis_pointnet"
network = "pointnet_s3dis"
schedule = dict(decay="steps", milestones=tuple(range(5, 40, 5)), optimizer=dict(weight_decay=0.0))
