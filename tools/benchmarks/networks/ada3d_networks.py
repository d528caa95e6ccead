"""The detectors of the bench `ada3d`: one CenterPoint for synthetic scenes, dense, thinned out, and narrower.

All have the voxels, the map and the head's grid of `center_point_small`; its 2-D backbone has six convolutions of width
48. Outputs of the first convolution may grow; the thinned network is trained on with those of the third growing as
well, which gives back what was dropped around objects (trained so from the beginning, the sparse network loses nine
points). The variants A, B and C, and B without the density filter, are drop rates of that one network. `narrow` is what
channel scaling gives instead: the dense network with all widths of the 2-D part scaled down to about the
multiply-accumulates of variant B.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from within.perception3d.named_detector import Network, build

NETWORK = "center_point_small"
FRAMES, SEED = 1000, 0  # of the synthetic series; every fifth frame is for validation
FOLDER = Path(__file__).parent.parent / "artefacts" / "ada3d"
BITS = 10
PLACES: tuple[tuple[int, ...], tuple[int, ...]] = ((1, 2), (1, 3))

DENSE: Mapping[str, Any] = {"blocks": [[5, 48, 1, 1, 48]], "head_width": 48}
SPARSE: Mapping[str, Any] = {**DENSE, "norm": "spatial_sparse", "execution": "sparse", "reach": ["grow", *["stay"] * 5]}
THINNED: Mapping[str, Any] = {
    **SPARSE,
    "reach": ["grow", "stay", "grow", "stay", "stay", "stay"],
    "places": PLACES,
    "occupied_only": True,
}
NARROW: Mapping[str, Any] = {"blocks": [[5, 12, 1, 1, 12]], "head_width": 12}
TUNED_AT: Mapping[str, Any] = {"voxels": {1: 0.7, 2: 0.85}, "pixels": {1: 0.6, 3: 0.75}, "density": False}
RATES: Mapping[str, Mapping[str, Any]] = {
    "A": {"voxels": {}, "pixels": {1: 0.6, 3: 0.65}},
    "B": {"voxels": {1: 0.75, 2: 0.8}, "pixels": {1: 0.6, 3: 0.65}},
    "B plain": {"voxels": {1: 0.75, 2: 0.8}, "pixels": {1: 0.6, 3: 0.65}, "density": False},
    "C": {"voxels": {1: 0.5, 2: 0.75}, "pixels": {1: 0.3, 3: 0.4}},
}
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "dense": DENSE,
    "narrow": NARROW,
    "sparse": SPARSE,
    "importance": {**SPARSE, "places": PLACES, "occupied_only": True},
    "tuned": {**THINNED, "drop_rates": TUNED_AT},
    **{name: {**THINNED, "drop_rates": rates} for name, rates in RATES.items()},
}


def trained(name: str) -> str:
    """Returns the name of the training from which a network has its weights."""
    return "tuned" if name in RATES else name


def network(name: str) -> Network:
    """Returns a freshly initialised network.

    Arguments:
        name: dense, narrow, sparse, importance, tuned, or a variant: A, B, C, "B plain" (without the density filter).
    """
    return build(NETWORK, **ARGUMENTS[name])
