"""PVCNN at 0.5 of its width on ShapeNet's parts; published: 85.5 mIoU."""

_base_ = "_base_/shapenet.py"

name = "shapenet_pvcnn_c0p5"
network = "pvcnn_shapenet_c0p5"
