"""Networks: RGB images in 0..255 in, class scores at the size of the image out; normalisation happens inside."""

from within.segmentation.models.registry import build, names, variant
from within.segmentation.models.swiftnet_pyramid import SwiftNetPyramid
from within.segmentation.models.swiftnet_single_scale import SwiftNetSingleScale

__all__ = ["SwiftNetPyramid", "SwiftNetSingleScale", "build", "names", "variant"]
