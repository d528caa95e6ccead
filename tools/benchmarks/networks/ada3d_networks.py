"""The detectors of the bench `ada3d`: one CenterPoint for synthetic scenes, dense, thinned out, and narrower.

All have the voxels, the map and the head's grid of `center_point_small`; its 2-D backbone has six convolutions of width
48. Where the 2-D part is sparse, outputs of its first and third convolution may grow, so that pixels dropped around an
object come back. `narrow` is what channel scaling gives instead: the dense network with all widths of the 2-D part
scaled down to the multiply-accumulates of variant B.
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

REACH = ["grow", "stay", "grow", "stay", "stay", "stay"]

DENSE: Mapping[str, Any] = {"blocks": [[5, 48, 1, 1, 48]], "head_width": 48}
SPARSE: Mapping[str, Any] = {**DENSE, "norm": "spatial_sparse", "execution": "sparse", "reach": REACH}
NARROW: Mapping[str, Any] = {"blocks": [[5, 12, 1, 1, 12]], "head_width": 12}
RATES: Mapping[str, Mapping[str, Any]] = {
    "A": {"voxels": {}, "pixels": {1: 0.6, 3: 0.75}},
    "B": {"voxels": {1: 0.7, 2: 0.85}, "pixels": {1: 0.6, 3: 0.75}},
    "C": {"voxels": {1: 0.5, 2: 0.75}, "pixels": {1: 0.4, 3: 0.5}},
}


def arguments(name: str) -> dict[str, Any]:
    """Returns the constructor arguments of a network: dense, narrow, sparse, importance, A, B, C, or B without density.

    Arguments:
        name: "B plain" is B without the density filter.
    """
    if name in ("dense", "narrow"):
        return dict(DENSE if name == "dense" else NARROW)
    if name == "sparse":
        return dict(SPARSE)
    if name == "importance":
        return {**SPARSE, "places": PLACES, "occupied_only": True}
    kind, _, plain = name.partition(" ")
    return {
        **SPARSE,
        "places": PLACES,
        "occupied_only": True,
        "drop_rates": {**RATES[kind], "density": not plain},
    }


def network(name: str) -> Network:
    """Returns a freshly initialised network."""
    return build(NETWORK, **arguments(name))
