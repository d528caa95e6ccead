"""CenterPoint on ONCE; published: 63.99 mAP on val (75.69 / 49.80 / 66.48)."""

_base_ = "../_base_/kitti_80_epochs.py"

name = "center_point_once"
network = "center_point_once"
data = "data/once"
augmentation = dict(sample=dict(Car=1, Bus=4, Truck=3, Pedestrian=2, Cyclist=2))
decoding = dict(least_score=0.1, overlap=0.7, limits=(-75.2, -75.2, -5, 75.2, 75.2, 3))
