"""PointNet on ShapeNet's parts, from coordinates alone; published: 83.7 mIoU."""

_base_ = "_base_/shapenet.py"

name = "shapenet_pointnet"
network = "pointnet_shapenet"
arguments = dict(in_channels=3)
normals = False
schedule = dict(epochs=200, decay="steps", milestones=tuple(range(20, 200, 20)))
