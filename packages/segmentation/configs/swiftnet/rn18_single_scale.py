"""SwiftNet on ResNet-18, one scale, Cityscapes; published: 75.4 mIoU on val. `pretrained` is torchvision's file."""

_base_ = "../_base_/swiftnet_schedule.py"

name = "swiftnet_rn18"
network = "swiftnet_rn18"
data = "data/cityscapes"
pretrained = "weights/resnet18.pth"
