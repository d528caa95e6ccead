"""Ada3D: spatial redundancy of 3-D detection turned into time. Zhao et al., ICCV 2023, arXiv:2307.08209."""

from within.perception3d.ada3d.filtering import Filter
from within.perception3d.ada3d.importance import ImportancePredictor
from within.perception3d.ada3d.thinning import Ada3D, DropRates

__all__ = ["Ada3D", "DropRates", "Filter", "ImportancePredictor"]
