"""SwiftNet on MobileNetV2, one scale, Cityscapes, from random weights."""

_base_ = "../_base_/swiftnet_schedule.py"

name = "swiftnet_mobilenet_v2"
network = "swiftnet_mobilenet_v2"
data = "data/cityscapes"
