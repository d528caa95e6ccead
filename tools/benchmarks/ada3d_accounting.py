"""The published normalised FLOPs and memory of Ada3D, counted again on the real frames with our definitions beside.

CenterPoint-KITTI at full size with untrained weights: what is counted depends on which places are occupied, and with
drops on which stay. As there are no published weights, importance is that of the labelled boxes, which a trained
predictor comes near to; the shares that stay are the same whatever the importance.

Definitions: see `within.perception3d.accounting`. The published columns divide by the dense network's; which layers
they hold is not said. Ours are given for SP-BN with sparse convolutions that grow ("grow"), as the published network
has them, and that stay where the inputs are ("stay"), by part and with the head.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from within.core.bench import BenchResult
from within.core.errors import WithinError
from within.core.progress import track
from within.perception3d.accounting import PARTS, PassCost, mean_cost, pass_cost
from within.perception3d.ada3d.importance import Importance, ImportancePredictor
from within.perception3d.ada3d.importance_loss import importance_target
from within.perception3d.ada3d.thinning import Ada3D
from within.perception3d.data.kitti import find_kitti
from within.perception3d.models.bev_map import BevMap
from within.perception3d.named_detector import Network, build, detector_of, map_grid
from within.perception3d.sparse import SparseTensor
from within.perception3d.training_scenes import network_inputs, padded_boxes, within_region

PLACES = ((1, 3), (1, 3))
RATES: Mapping[str, Mapping[str, Any]] = {
    "SP-BN": {},
    "A": {"pixels": {1: 0.5, 3: 0.5}},
    "B": {"voxels": {1: 0.75, 3: 0.75}, "pixels": {1: 0.5, 3: 0.5}},
    "C": {"voxels": {1: 0.62, 3: 0.62}, "pixels": {1: 0.3, 3: 0.3}},
}
PUBLISHED = {  # FLOPs 3-D and 2-D, memory 3-D and 2-D, of the dense network's
    "SP-BN": (1.0, 0.49, 1.0, 0.45),
    "A": (1.0, 0.22, 1.0, 0.25),
    "B": (0.66, 0.18, 0.68, 0.17),
    "C": (0.39, 0.08, 0.43, 0.07),
}
REACHES = ("grow", "stay")


class LabelledImportance(ImportancePredictor):
    """Costs what a predictor costs, and answers with the heat map of the labelled boxes."""

    target: ClassVar[Tensor]

    def __init__(self, predictor: ImportancePredictor) -> None:
        nn.Module.__init__(self)
        self.stride, self.shared, self.occupied_only = predictor.stride, predictor.shared, predictor.occupied_only
        self.voxel_embeddings, self.map_embeddings = predictor.voxel_embeddings, predictor.map_embeddings

    def of_voxels(self, stage: int, x: SparseTensor) -> Importance:
        """Returns the labelled importance of the occupied columns."""
        return self._labelled(super().of_voxels(stage, x))

    def of_map(self, convolution: int, x: BevMap) -> Importance:
        """Returns the labelled importance of the occupied pixels."""
        return self._labelled(super().of_map(convolution, x))

    def _labelled(self, predicted: Importance) -> Importance:
        batch, row, column = predicted.pixels.indices.long().unbind(1)
        return Importance(predicted.pixels.with_features(self.target[batch, :, row, column]), self.target)


def run(full: bool = False) -> BenchResult:
    """Counts on all real frames."""
    torch.set_num_threads(1)
    folder = Path(os.environ.get("WITHIN_DATA", "")) / "perception3d" / "kitti"
    if not folder.is_dir():
        raise WithinError("The real frames are not there", where=str(folder), todo="set WITHIN_DATA")
    frames = find_kitti(folder, "all")
    torch.manual_seed(0)
    networks: dict[str, Network] = {"dense": build("center_point_kitti").eval()}
    for name, rates in RATES.items():
        for reach in REACHES:
            torch.manual_seed(0)
            networks[f"{name}, {reach}"] = network = build(
                "center_point_kitti", norm="spatial_sparse", execution="sparse", reach=reach,
                drop_rates=rates, places=PLACES if rates else ((), ()),
            ).eval()  # fmt: skip
            if isinstance(network, Ada3D):
                network.predictor = LabelledImportance(network.predictor)
    costs: dict[str, list[PassCost]] = {name: [] for name in networks}
    detector = detector_of(networks["dense"])
    grid = map_grid(detector, 8)
    for index in track(range(len(frames)), "Frames"):
        scene = within_region(frames.scene(index), detector.grid)
        inputs = network_inputs([scene.points], detector.grid, detector.columns)
        boxes, labels = padded_boxes([scene], detector.classes, 7)
        LabelledImportance.target = importance_target(boxes, labels, len(detector.classes), grid)
        for name, network in networks.items():
            costs[name].append(pass_cost(network, *inputs))
    means = {name: mean_cost(each) for name, each in costs.items()}
    base, rows, figures = means["dense"], [], {}
    for name, mean in means.items():
        ratio = mean.over(base)
        published = PUBLISHED.get(name.partition(",")[0], (1.0, 1.0, 1.0, 1.0))
        macs, memory = ([f"{ratio[part][kind]:.3f}" for part in ("3d", "2d", "head", "total")] for kind in (0, 1))
        first, second = (f"{published[at]:.2f} / {published[at + 1]:.2f}" for at in (0, 2))
        rows.append((name, first, *macs, second, *memory))
        figures[name] = {part: [round(value, 4) for value in each] for part, each in ratio.items()}
    figures["dense_gmacs"] = {part: round(base.macs[part] / 1e9, 3) for part in PARTS[:3]}  # type: ignore[assignment]
    figures["dense_mib"] = {part: round(base.memory[part] / 2**20, 1) for part in PARTS[:3]}  # type: ignore[assignment]
    falling = [figures[f"{name}, {reach}"]["total"][0] for reach in REACHES for name in RATES]
    ordered = all(a >= b for half in (falling[:4], falling[4:]) for a, b in itertools.pairwise(half))
    columns = (
        "network", "published FLOPs 3-D / 2-D", "3-D", "2-D", "head", "all", "published memory 3-D / 2-D", "3-D", "2-D",
        "head", "all",
    )  # fmt: skip
    figures |= {"frames": len(frames), "missed": [] if ordered else ["A, B and C cost less and less"]}  # type: ignore[dict-item]
    return BenchResult("ada3d-accounting", ordered, figures, columns, rows)
