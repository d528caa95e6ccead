"""Fine-grained sparsity: which single weights stay."""

from within.core.sparse.brain_surgeon import brain_surgeon
from within.core.sparse.magnitude import apply_masks, density_mask, density_of, magnitude_masks, threshold_mask

__all__ = ["apply_masks", "brain_surgeon", "density_mask", "density_of", "magnitude_masks", "threshold_mask"]
