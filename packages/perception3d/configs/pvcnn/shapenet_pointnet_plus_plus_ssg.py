"""PointNet++ with one scale on ShapeNet's parts; it is not told the category."""

_base_ = "_base_/shapenet.py"

name = "shapenet_pointnet_plus_plus_ssg"
network = "pointnet_plus_plus_shapenet_ssg"
schedule = dict(epochs=200, decay="steps", milestones=tuple(range(20, 200, 20)))
