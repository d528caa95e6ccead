"""PVCNN at 1 of its width on ShapeNet's parts; published: 85.8 mIoU."""

_base_ = "_base_/shapenet.py"

name = "shapenet_pvcnn_c1"
network = "pvcnn_shapenet_c1"
