"""CenterPoint's published counts: parameters by part, dense multiply-accumulates by part, the importance predictor's.

The dense part is traced and counted by `within.core`; forward hooks count it again on a real pass. The integers of
PVCNN are those of the bench `pvcnn`, counted here as well. What the 3-D backbone multiplies depends on the cloud: where
the real frames are at hand it is shown beside the published mean.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from tools.benchmarks.pvcnn import PUBLISHED_G

from within.core import Macs, Params, trace
from within.core.bench import BenchResult
from within.core.progress import track
from within.perception3d.accounting import mean_cost, pass_cost
from within.perception3d.data.kitti import find_kitti
from within.perception3d.export import map_shape
from within.perception3d.models.folding import DenseBev
from within.perception3d.models.variants import build
from within.perception3d.named_detector import build as build_network
from within.perception3d.pvcnn.registry import build as build_points
from within.perception3d.pvcnn.registry import variant
from within.perception3d.training_scenes import network_inputs

PARAMETERS = {
    "center_point_kitti": {"3d": 2_694_880, "2d": 1_165_312, "head": 339_275, "all": 4_199_467},
    "center_point_kitti_plain": {"3d": 711_872, "2d": 1_165_312, "head": 339_275, "all": 2_216_459},
}
CONVOLUTIONS, TRANSPOSED, HEAD = 36_333_158_400, 4_613_734_400, 47_606_169_600
PREDICTOR, EMBEDDINGS = 454, (256, 1024, 1024, 1024)
PUBLISHED_FRAMES = {"center_point_kitti": 14.04, "center_point_kitti_plain": 4.12}  # G, mean of 12 frames


def run(full: bool = False) -> BenchResult:
    """Runs the bench; it is always whole."""
    torch.set_num_threads(1)
    checks: list[tuple[str, int, int]] = []
    for name, expected in PARAMETERS.items():
        checks += _parameters(name, expected)
    checks += _dense_macs()
    checks += _predictor()
    for name in track(PUBLISHED_G, "Counting PVCNN"):
        known = variant(name)
        with torch.device("meta"):
            graph = trace(build_points(name), known.example_inputs())
        checks += [
            (f"{name}: parameters", known.parameters, Params()(graph)),
            (f"{name}: MACs", known.macs, Macs()(graph)),
        ]
    missed = [f"{name}: {found:,} instead of {expected:,}" for name, expected, found in checks if found != expected]
    rows = [(name, f"{expected:,}", f"{found:,}", expected == found) for name, expected, found in checks]
    figures: dict[str, Any] = {"integers": len(checks), "exact": len(checks) - len(missed), "missed": missed}
    frames = _on_frames()
    if frames:
        figures["gmacs_3d_on_frames"] = frames
        rows += [(f"{name}: G of the 3-D backbone, mean of the frames at hand", PUBLISHED_FRAMES[name], value, "")
                 for name, value in frames.items()]  # fmt: skip
    return BenchResult("counts3d", not missed, figures, ("count", "published", "ours", "equal"), rows)


def _parameters(name: str, expected: dict[str, int]) -> list[tuple[str, int, int]]:
    detector = build(name)
    parts = {"3d": detector.backbone, "2d": detector.bev, "head": detector.head, "all": detector}
    return [
        (f"{name}: parameters, {part}", expected[part], sum(value.numel() for value in module.parameters()))
        for part, module in parts.items()
    ]


def _dense_macs() -> list[tuple[str, int, int]]:
    detector = build("center_point_kitti").eval()
    with torch.device("meta"):
        image = torch.zeros(1, *map_shape(detector))
    dense = DenseBev(detector.bev, detector.head).to("meta").eval()
    graph = trace(dense, (image,))
    by_operator = Macs().by_operator(graph)
    parts = {"convolutions": 0, "transposed": 0, "head": 0}
    for op in graph.operators:
        if op.name in by_operator:
            weight = str(op.get("weight").name)
            kind = "head" if "head" in weight else "transposed" if "upsample" in weight else "convolutions"
            parts[kind] += int(by_operator[op.name])
    detector = build("center_point_kitti").eval()
    point = (
        torch.zeros(1, 1, 4),
        torch.ones(1, dtype=torch.int32),
        torch.zeros(1, 3, dtype=torch.int32),
        torch.ones(1).long(),
    )
    hooked = pass_cost(detector, *point)
    return [
        ("2-D backbone: MACs of the convolutions", CONVOLUTIONS, parts["convolutions"]),
        ("2-D backbone: MACs of the transposed convolution", TRANSPOSED, parts["transposed"]),
        ("head: MACs", HEAD, parts["head"]),
        ("2-D backbone and head by forward hooks: MACs", CONVOLUTIONS + TRANSPOSED + HEAD,
         int(hooked.macs["2d"] + hooked.macs["head"])),
    ]  # fmt: skip


def _predictor() -> list[tuple[str, int, int]]:
    network = build_network("center_point_kitti", places=((1, 3), (1, 3)))
    predictor = network.predictor  # type: ignore[union-attr]
    embeddings = [*predictor.voxel_embeddings.values(), *predictor.map_embeddings.values()]  # type: ignore[union-attr,operator]
    found = [
        ("importance predictor: parameters, shared", PREDICTOR, sum(p.numel() for p in predictor.shared.parameters()))
    ]  # type: ignore[union-attr]
    found += [
        (f"importance predictor: parameters, place {number}", expected, layer.weight.numel())
        for number, (expected, layer) in enumerate(zip(EMBEDDINGS, embeddings, strict=True))
    ]
    return found


def _on_frames() -> dict[str, float]:
    folder = Path(os.environ.get("WITHIN_DATA", "")) / "perception3d" / "kitti"
    if not folder.is_dir():
        return {}
    frames = find_kitti(folder, "all")
    found = {}
    for name in PARAMETERS:
        detector = build(name, execution="sparse", reach="stay").eval()
        costs = []
        for index in track(range(len(frames)), f"Frames through {name}"):
            points = frames.scene(index).points
            costs.append(pass_cost(detector, *network_inputs([points], detector.grid, 4)))
        found[name] = round(mean_cost(costs).macs["3d"] / 1e9, 3)
    return found
