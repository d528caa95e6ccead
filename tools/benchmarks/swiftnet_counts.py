"""Parameters and multiply-accumulates of eleven SwiftNets, dense and cut by stages, to the last digit.

Counts are read off the ordinary graph; the smaller networks come from the ordinary `prune` with the rule "half of every
named stage". Each is also counted by forward hooks, which know layers and no graph, on the network that `prune` made.
Input 1x3x1024x2048.
"""

from __future__ import annotations

from typing import Any

import torch
from tools.benchmarks.networks.hooks import thop_count

from within.core import Macs, Params, trace
from within.core.bench import BenchResult
from within.core.progress import track
from within.segmentation.models import build
from within.segmentation.stage_pruning import prune_stages

SIZE = (1, 3, 1024, 2048)
TRACED = (1, 3, 256, 512)  # where the cut is made; widths do not depend on it

# name, variant, arguments, stages cut to half, parameters, MACs in the talk, MACs; a float is billions to three digits
ROWS: tuple[tuple[str, str, dict[str, Any], tuple[int, ...], int, float, float], ...] = (
    ("full", "swiftnet_ade20k", {}, (), 22_040_278, 209_669_521_408, 209_234_952_192),
    ("first two blocks 50 %", "swiftnet_ade20k", {}, (1, 2), 20_857_526, 139_684_151_296, 139_409_227_776),
    ("all four blocks 50 %", "swiftnet_ade20k", {}, (1, 2, 3, 4), 6_010_806, 59_749_826_560, 59_520_319_488),
    ("single scale, ResNet-18", "swiftnet_rn18", {}, (), 11_797_071, 103.886, 103.566),
    ("single scale, ResNet-34", "swiftnet_rn34", {}, (), 21_905_231, 181.301, 180.876),
    ("single scale, ResNet-18, 11 classes", "swiftnet_rn18", {"classes": 11}, (), 11_796_039, 103.751, 103.432),
    ("pyramid, ResNet-18, stride 4", "swiftnet_pyramid_rn18", {}, (), 12_056_275, 128.546, 128.193),
    ("pyramid, ResNet-34, stride 4", "swiftnet_pyramid_rn34", {}, (), 22_179_283, 230.152, 229.661),
    ("pyramid, ResNet-18, stride 8", "swiftnet_pyramid_rn18", {"output_stride": 8}, (), 11_900_371, 107.510, 107.217),
    ("single scale, ResNet-18, all 50 %", "swiftnet_rn18", {}, (1, 2, 3, 4), 3_357_039, 47.144, 46.943),
    ("single scale, ResNet-18, first two 50 %", "swiftnet_rn18", {}, (1, 2), 11_111_279, 71.792, 71.572),
)


def run(full: bool = False) -> BenchResult:
    """Builds, cuts and counts all eleven; `full` changes nothing."""
    torch.manual_seed(0)
    rows, missed = [], []
    for name, variant, arguments, stages, parameters, published, convolutions in track(ROWS, "Counting"):
        model = build(variant, **arguments).eval()
        if stages:
            model = prune_stages(model, (torch.zeros(TRACED),), stages).model
        image = torch.zeros(SIZE)
        graph = trace(model, (image,))
        counted = Params()(graph), Macs("thop_2019")(graph), Macs()(graph)
        with torch.no_grad():
            hooked = thop_count(model, (image,))
        right = (
            counted[0] == parameters
            and _equal(counted[1], published)
            and _equal(counted[2], convolutions)
            and counted[1] == hooked
        )
        rows.append([name, counted[0], counted[1], counted[2], hooked == counted[1], right])
        if not right:
            missed.append(name)
    figures = {"networks": len(rows), "right": len(rows) - len(missed), "missed": missed}
    columns = ["network", "parameters", "MACs, talk's rule", "MACs", "hooks agree", "right"]
    return BenchResult("swiftnet-counts", not missed, figures, columns, rows)


def _equal(counted: int, expected: float) -> bool:
    """Whether a count is the integer expected, or the number of billions to its three digits."""
    return counted == expected if isinstance(expected, int) else round(counted / 1e9, 3) == expected
