"""Image-restoration networks, one file each, built by name: `build("imdn_x4")`.

Every network has `scale` (upscaling factor) and `size_multiple` (what height and width must be divisible by; `padding`
makes them so), maps images to images, and traces with `torch.export`.
"""

from within.lowlevel.models.padding import check_size, crop, pad_to_multiple, restore
from within.lowlevel.models.registry import build, example_inputs, names, variant
from within.lowlevel.models.variants import Variant

__all__ = ["Variant", "build", "check_size", "crop", "example_inputs", "names", "pad_to_multiple", "restore", "variant"]
