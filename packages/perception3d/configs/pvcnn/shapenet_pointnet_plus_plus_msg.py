"""PointNet++ with several scales on ShapeNet's parts; published: 85.1 mIoU."""

_base_ = "_base_/shapenet.py"

name = "shapenet_pointnet_plus_plus_msg"
network = "pointnet_plus_plus_shapenet_msg"
schedule = dict(epochs=200, decay="steps", milestones=tuple(range(20, 200, 20)))
