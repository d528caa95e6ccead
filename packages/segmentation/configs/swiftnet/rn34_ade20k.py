"""Pyramidal SwiftNet on ResNet-34 for ADE20K, the dense network of the pruning study; published: 33.89 mIoU."""

_base_ = "../_base_/swiftnet_schedule.py"

name = "swiftnet_ade20k"
network = "swiftnet_ade20k"
data = "data/ADEChallengeData2016"
split = "training"
validation_split = "validation"
pretrained = "weights/resnet34.pth"
schedule = dict(loss="boundary_aware_focal")
