"""PVCNN at 0.125 of its width on ShapeNet's parts."""

_base_ = "_base_/shapenet.py"

name = "shapenet_pvcnn_c0p125"
network = "pvcnn_shapenet_c0p125"
