"""Published weights of the networks of this package, loaded from their authors' files."""

from within.segmentation.weights.espnet_layout import load_espnet
from within.segmentation.weights.espnet_v2_layout import load_espnet_v2
from within.segmentation.weights.swiftnet_layout import load_swiftnet

__all__ = ["load_espnet", "load_espnet_v2", "load_swiftnet"]
