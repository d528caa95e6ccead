"""Pyramidal SwiftNet on ResNet-18, Cityscapes, with the boundary-aware focal loss."""

_base_ = "../_base_/swiftnet_schedule.py"

name = "swiftnet_pyramid_rn18"
network = "swiftnet_pyramid_rn18"
data = "data/cityscapes"
pretrained = "weights/resnet18.pth"
schedule = dict(loss="boundary_aware_focal")
