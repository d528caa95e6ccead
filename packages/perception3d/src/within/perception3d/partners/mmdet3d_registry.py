"""Our networks in MMDetection3D's registries; importing this registers them. A configuration of theirs says:

    custom_imports = dict(imports=["within.perception3d.partners.mmdet3d_registry"])

and may then name `WithinVoxelBackbone`, `WithinPillarScatter`, `WithinBevBackbone`, `WithinBevNeck` and
`WithinDetector` as types of its model, and `SPBN` as that of any norm over maps.
"""

from __future__ import annotations

from within.core.errors import WithinError
from within.perception3d.models.bev_layers import SpatialSparseNorm

try:
    from mmdet3d.registry import MODELS
    from mmengine.registry import MODELS as NORMS

    from within.perception3d.partners.mmdet3d_detector import WithinDetector
except WithinError:
    raise
except Exception as error:  # its parts fail in many ways where one of them is missing
    raise WithinError(
        f"MMDetection3D could not be imported ({type(error).__name__}: {error})",
        todo="install it with `make setup-mmdet3d`, and run .venv-mmdet3d/bin/python",
    ) from error

from within.perception3d.partners.mmdet3d_modules import (
    WithinBevBackbone,
    WithinBevNeck,
    WithinPillarScatter,
    WithinVoxelBackbone,
)

REGISTERED = (WithinVoxelBackbone, WithinPillarScatter, WithinBevBackbone, WithinBevNeck, WithinDetector)

for each in REGISTERED:
    MODELS.register_module(module=each, force=True)
NORMS.register_module("SPBN", module=SpatialSparseNorm, force=True)
