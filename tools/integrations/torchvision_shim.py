"""Makes a torchvision wheel that was built for CUDA importable beside a CPU build of torch.

torchvision registers fake kernels for `torchvision::nms` and `torchvision::qnms` when it is imported. Where its
compiled library cannot be loaded (it wants the CUDA libraries), these operators do not exist and the import ends in a
RuntimeError. Declaring their schemas is enough: models, transforms and export work; calling nms or decoding JPEG does
not.

Call `install()` before the first import of timm, torchvision, torch_pruning or basicsr.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

BOX_OPERATORS = ("nms", "qnms")
BOX_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
FUNCTIONAL_TENSOR = "torchvision.transforms.functional_tensor"

_kept_alive: list[torch.library.Library] = []  # a library's definitions vanish with the object


def install() -> str:
    """Prepares torchvision for import, once; further calls do nothing.

    Returns:
        "absent" (torchvision is not installed), "compiled" (its own library loads) or "declared" (only the schemas).
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return "absent"
    state = "declared" if _kept_alive else _load_or_declare(Path(spec.origin).parent)
    _alias_functional_tensor()
    return state


def _load_or_declare(package: Path) -> str:
    library = next(package.glob("_C*.so"), None)
    if library is not None:
        try:
            torch.ops.load_library(str(library))
            return "compiled"
        except OSError:
            pass  # the CUDA libraries it was linked against are not here
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    for name in BOX_OPERATORS:
        fragment.define(name + BOX_SCHEMA)
    _kept_alive.append(fragment)
    return "declared"


def _alias_functional_tensor() -> None:
    """Gives basicsr the module it imports `rgb_to_grayscale` from, which torchvision dropped in 0.17."""
    if FUNCTIONAL_TENSOR in sys.modules or importlib.util.find_spec(FUNCTIONAL_TENSOR) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    alias = ModuleType(FUNCTIONAL_TENSOR, "Where torchvision kept rgb_to_grayscale before 0.17.")
    alias.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[FUNCTIONAL_TENSOR] = alias
