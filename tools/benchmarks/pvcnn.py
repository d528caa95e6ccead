"""PVCNN: the public code's logits, every published count, and a point-voxel convolution against neighbourhoods.

Counts are parameters and multiply-accumulates of convolutions and linear layers, read off a trace on the meta device;
the table's G are those of the public modules. A layer of width 64 on 4096 points is timed in turns on one thread's CPU
time: `PVConv`, and ball query, grouping and a shared MLP of as many layers, around every point, and around 1024 sampled
ones as PointNet++ does. Peak memory is what torch allocates beyond the layer's input and weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from within.core import Macs, Params, trace
from within.core.bench import BenchResult
from within.core.device import measure
from within.core.device.memory import allocation_peak
from within.core.progress import track
from within.perception3d.pvcnn.frustum import FrustumNetwork
from within.perception3d.pvcnn.neighbours import ball_query, gather
from within.perception3d.pvcnn.point_mlp import PointMLP
from within.perception3d.pvcnn.published_layout import renamed_state
from within.perception3d.pvcnn.pv_conv import PVConv
from within.perception3d.pvcnn.registry import build, names, variant
from within.perception3d.pvcnn.set_abstraction import SetAbstraction
from within.perception3d.pvcnn.spvcnn import SPVCNN

PUBLISHED_G = {
    "pvcnn_s3dis_c1": "12.9075", "pvcnn_s3dis_c0p5": "3.3583", "pvcnn_s3dis_c0p25": ".9053",
    "pvcnn_s3dis_c0p125": ".2592", "pvcnn_plus_plus_s3dis_c1": "26.3339", "pvcnn_plus_plus_s3dis_c0p5": "6.6542",
    "pointnet_s3dis": "3.5731", "pvcnn_shapenet_c1": "15.4447", "pvcnn_shapenet_c0p5": "3.9517",
    "pvcnn_shapenet_c0p25": "1.0332", "pvcnn_shapenet_c0p125": ".2809", "pointnet_shapenet": "5.1393",
    "pointnet_plus_plus_shapenet_ssg": "1.3140", "pointnet_plus_plus_shapenet_msg": "4.7585",
    "frustum_pointnet": "1.0264", "frustum_pointnet_plus_plus": "1.3971", "frustum_pvcnn_e": "4.4458",
}  # fmt: skip
FRUSTUM_PARTS = {"mask": 2_610_754, "centre": 151_683, "box": 595_899}
SPVCNN_PARAMETERS = "21.8"  # millions
GOLDEN = Path("perception3d") / "golden" / "pvcnn_s3dis_c0p125_seed1.safetensors"
MOST_DIFFERENCE = 1e-4
WIDTH, POINTS, CENTRES, NEIGHBOURS, RADIUS = 64, 4096, 1024, 32, 0.1
SIDE = 1.5  # metres of a block of S3DIS


def run(full: bool = False) -> BenchResult:
    """Runs the bench; it is always whole."""
    torch.set_num_threads(1)
    missed: list[str] = []
    difference = _golden_difference()
    if difference is not None and difference > MOST_DIFFERENCE:
        missed.append(f"logits differ by {difference:.1e}")
    rows, counts = [], {}
    for name in track(names(), "Counting"):
        found = _counts(name)
        rows.append([name, *found, PUBLISHED_G[name], variant(name).published])
        counts[name] = {"parameters": found[0], "macs": found[1]}
        if not _right(name, *found):
            missed.append(f"{name}: {found[0]} parameters, {found[1]} MACs")
    missed += _parts_missed()
    layers = _layers()
    rows += [[name, "", "", "", f"{each['ms']:.1f} ms ({each['ratio']:.2f}), {each['mib']:.1f} MiB"]
             for name, each in layers.items()]  # fmt: skip
    figures = {
        "golden_difference": difference, "golden": "no WITHIN_DATA" if difference is None else str(GOLDEN),
        "counts": counts, "integers": 2 * len(counts) + len(FRUSTUM_PARTS), "layers": layers, "missed": missed,
        "thresholds": {"golden_difference": MOST_DIFFERENCE, "missed": []},
    }  # fmt: skip
    columns = ("network or layer", "parameters", "MACs", "published G", "published quality, or time and memory")
    return BenchResult("pvcnn", not missed, figures, columns, rows)


class _Neighbourhoods(nn.Module):
    """Ball query, grouping and a shared MLP around every point."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = PointMLP(WIDTH + 3, (WIDTH, WIDTH), axes=2)

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        rows = ball_query(points, points, RADIUS, NEIGHBOURS)
        grouped = torch.cat([gather(points, rows) - points[:, :, :, None], gather(features, rows)], dim=1)
        found: Tensor = self.mlp(grouped).amax(3)
        return found


def _counts(name: str) -> tuple[int, int]:
    """Returns parameters and multiply-accumulates."""
    with torch.device("meta"):
        graph = trace(build(name), variant(name).example_inputs())
    return Params()(graph), Macs()(graph)


def _right(name: str, parameters: int, macs: int) -> bool:
    known = variant(name)
    rounded = f"{macs / 1e9:.4f}".removeprefix("0")
    return (parameters, macs) == (known.parameters, known.macs) and rounded == PUBLISHED_G[name]


def _parts_missed() -> list[str]:
    missed = []
    with torch.device("meta"):
        network, large = FrustumNetwork("pvcnn_e"), SPVCNN()
    for part, expected in FRUSTUM_PARTS.items():
        count = sum(value.numel() for value in getattr(network, part).parameters())
        if count != expected:
            missed.append(f"frustum_pvcnn_e {part}: {count} parameters instead of {expected}")
    millions = sum(value.numel() for value in large.parameters()) / 1e6
    if f"{millions:.1f}" != SPVCNN_PARAMETERS:
        missed.append(f"SPVCNN: {millions} M parameters instead of {SPVCNN_PARAMETERS}")
    return missed


def _golden_difference() -> float | None:
    """Returns the largest difference of logits from the public code, or None where its outputs are not here."""
    path = Path(os.environ.get("WITHIN_DATA", "")) / GOLDEN
    if not path.is_file():
        return None
    golden = load_file(path)
    state = {name.removeprefix("state."): value for name, value in golden.items() if name.startswith("state.")}
    network = build("pvcnn_s3dis_c0p125").eval()
    network.load_state_dict(renamed_state(state))
    with torch.no_grad():
        return float((network(golden["input"]) - golden["logits"]).abs().max())


def _layers() -> dict[str, dict[str, Any]]:
    """Returns time, ratio to the first and peak memory of layers of equal width."""
    generator = torch.Generator().manual_seed(0)
    points = SIDE * torch.rand(1, 3, POINTS, generator=generator)
    face = torch.arange(POINTS) % 3  # on three faces of the block, as in a corner of a room
    points[0, face, torch.arange(POINTS)] = 0.0
    features = torch.randn(1, WIDTH, POINTS, generator=generator)
    sampled = SetAbstraction(WIDTH, CENTRES, (RADIUS,), (NEIGHBOURS,), ((WIDTH, WIDTH),))
    candidates: dict[str, nn.Module] = {
        "PVConv, 16^3 voxels": PVConv(WIDTH, WIDTH, 16),
        "PVConv, 32^3 voxels": PVConv(WIDTH, WIDTH, 32),
        f"{NEIGHBOURS} neighbours of every point": _Neighbourhoods(),
        f"{NEIGHBOURS} neighbours of {CENTRES} sampled points": sampled,
    }
    for layer in candidates.values():
        layer.eval()

    def runner(layer: nn.Module) -> Callable[[], object]:
        def once() -> object:
            with torch.no_grad():
                return layer(features, points)

        return once

    timed = measure({name: runner(layer) for name, layer in candidates.items()}, (), repeats=15)
    return {
        each.name: {
            "ms": round(1e3 * each.median, 2), "mad_ms": round(1e3 * each.mad, 2), "ratio": round(each.ratio, 3),
            "ratio_interval": [round(end, 3) for end in each.ratio_interval],
            "mib": round(allocation_peak(runner(candidates[each.name])).bytes / 2**20, 2),
        }
        for each in timed.values()
    }  # fmt: skip
