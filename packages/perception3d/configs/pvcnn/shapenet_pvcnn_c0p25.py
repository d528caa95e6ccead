"""PVCNN at 0.25 of its width on ShapeNet's parts; published: 84.9 mIoU."""

_base_ = "_base_/shapenet.py"

name = "shapenet_pvcnn_c0p25"
network = "pvcnn_shapenet_c0p25"
