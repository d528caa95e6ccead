"""Multiply-accumulates and parameters, to the last digit, of networks whose counts are known.

Every row is one network on an ordinary `Graph`, traced on the meta device (nothing is computed, no weights are held):
classification networks at 224x224, CIFAR networks at 32x32, and the restoration networks at the sizes of their papers.
Where timm and torchvision both have a network, both must give the same total; how they split it between convolutions
and linear layers differs (timm's VGG and MobileNetV3 heads are convolutions), so the split is that of torchvision.
`thop_2019` is compared with a count from forward hooks, which knows layers and no graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from tools.benchmarks.networks.cifar_resnet import CifarResNet
from tools.benchmarks.networks.families import timm, torchvision_models
from tools.benchmarks.networks.hooks import thop_count
from tools.benchmarks.networks.lenet import lenet_5, lenet_300_100
from tools.benchmarks.networks.mobilenet_v1 import AMC_HALF, MobileNetV1
from torch import nn

from within.core import Macs, Params, trace
from within.core.bench import BenchResult
from within.core.graph import Graph
from within.core.progress import track
from within.lowlevel.models import build, example_inputs, variant


@dataclass(frozen=True)
class Row:
    """A network and its counts.

    Attributes:
        build: constructor.
        shape: input shape.
        convolution, linear: multiply-accumulates of the two kinds, None where only the sum is known.
        total: of everything, attention products included.
        parameters: learnable ones.
        printed: the total in G as the table prints it, where it prints no integer.
        convention: of the counts.
    """

    name: str
    source: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    total: int
    parameters: int
    convolution: int | None = None
    linear: int | None = None
    printed: str | None = None
    convention: Any = "exact"


# name in torchvision, name in timm, convolution MACs, linear MACs, parameters (at 224x224)
CLASSIFIERS: tuple[tuple[str | None, str | None, int, int, int], ...] = (
    ("resnet18", "resnet18", 1_813_561_344, 512_000, 11_689_512),
    ("resnet34", "resnet34", 3_663_249_408, 512_000, 21_797_672),
    ("resnet50", "resnet50", 4_087_136_256, 2_048_000, 25_557_032),
    ("resnet101", "resnet101", 7_799_357_440, 2_048_000, 44_549_160),
    ("vgg16", "vgg16", 15_346_630_656, 123_633_664, 138_357_544),
    ("vgg16_bn", "vgg16_bn", 15_346_630_656, 123_633_664, 138_365_992),
    ("alexnet", None, 655_566_528, 58_621_952, 61_100_840),
    ("mobilenet_v2", "mobilenetv2_100", 299_494_272, 1_280_000, 3_504_872),
    ("mobilenet_v3_large", "mobilenetv3_large_100", 214_080_960, 2_508_800, 5_483_032),
    ("mobilenet_v3_small", "mobilenetv3_small_100", 54_896_576, 1_613_824, 2_542_856),
    ("densenet121", "densenet121", 2_833_137_664, 1_024_000, 7_978_856),
    ("squeezenet1_0", None, 818_924_576, 0, 1_248_424),
)

# our definition, input shape, convolution MACs, linear MACs, parameters
PLAIN: tuple[tuple[str, Callable[[], nn.Module], tuple[int, ...], int, int, int], ...] = (
    ("mobilenet_v1", MobileNetV1, (1, 3, 224, 224), 567_716_352, 1_024_000, 4_231_976),
    ("mobilenet_v1 AMC 50%", lambda: MobileNetV1(AMC_HALF), (1, 3, 224, 224), 293_118_000, 752_000, 2_408_232),
    ("CIFAR ResNet-20", lambda: CifarResNet(20), (1, 3, 32, 32), 40_550_400, 640, 269_722),
    ("CIFAR ResNet-32", lambda: CifarResNet(32), (1, 3, 32, 32), 68_861_952, 640, 464_154),
    ("CIFAR ResNet-44", lambda: CifarResNet(44), (1, 3, 32, 32), 97_173_504, 640, 658_586),
    ("CIFAR ResNet-56", lambda: CifarResNet(56), (1, 3, 32, 32), 125_485_056, 640, 853_018),
    ("LeNet-300-100", lenet_300_100, (1, 1, 28, 28), 0, 266_200, 266_610),
    ("LeNet-5", lenet_5, (1, 1, 28, 28), 1_888_000, 405_000, 431_080),
)

# our name of the variant, parameters, MACs in G as printed in the table (None: it prints none)
RESTORATION: tuple[tuple[str, int, str | None], ...] = (
    ("dncnn_s", 556_032, "36.3143"),
    ("dncnn_merged", 555_137, "36.3143"),
    ("dncnn_b", 667_008, "43.5620"),
    ("ffdnet_gray", 485_316, None),
    ("imdn_x2", 694_404, "158.7659"),
    ("imdn_x4", 715_176, "40.8859"),
    ("imdn_rtc_x2", 20_190, "1.7193"),
    ("carn_x2", 1_591_963, "222.831"),
    ("carn_x4", 1_591_963, "90.882"),
    ("carn_m_x2", 414_811, "91.182"),
    ("carn_m_x4", 414_811, "32.490"),
    ("edsr_baseline_x2", 1_369_859, "316.2489"),
    ("edsr_baseline_x4", 1_517_571, "114.2305"),
    ("edsr_large_x4", 43_089_923, "2894.5465"),
    ("msrresnet_x2", 1_369_859, "341.7293"),
    ("msrresnet_x4", 1_517_571, "146.0810"),
    ("rcan_x4", 15_592_355, "916.8631"),
    ("rrdbnet_x4", 16_697_987, "1032.5864"),
    ("nafnet_sidd_w32", 29_159_715, "16.0450"),
    ("nafnet_sidd_w64", 115_982_915, "63.2364"),
    ("nafnet_gopro_w32", 17_111_907, "15.9560"),
    ("nafnet_gopro_w64", 67_888_835, "63.0550"),
    ("restormer", 26_126_644, "154.8820"),
    ("restormer_gray", 26_109_076, None),
    ("cyclegan_resnet9", 11_378_179, "49.5515"),
    ("n2n_unet", 700_611, "13.2059"),
    ("pmrid", 1_031_908, "0.9811"),
    ("dce_net", 79_416, "5.1905"),
)
CYCLEGAN_BY_OUTPUT_SIZE = 56_799_264_768


def run(full: bool = False) -> BenchResult:
    """Runs the bench; it is always whole."""
    lines, missed = [], []
    table = rows()
    for row in track(table, "Counting"):
        line, right = count(row)
        lines.append(line)
        if not right:
            missed.append(f"{row.name} ({row.source}, {row.convention})")
    known = [(row.convolution, row.linear, row.total, row.parameters) for row in table]
    figures = {
        "rows": len(lines),
        "integers": sum(value is not None for values in known for value in values),
        "missed": missed,
        "thresholds": {"missed": []},
    }
    columns = ("network", "from", "input", "convention", "convolutions", "linear", "total MACs", "parameters",
               "thop_2019", "right")  # fmt: skip
    return BenchResult("counts", not missed, figures, columns, lines)


def rows() -> list[Row]:
    """Returns every row."""
    found = []
    shape = (1, 3, 224, 224)
    for ours, theirs, convolution, linear, parameters in CLASSIFIERS:
        total = convolution + linear
        if ours is not None:
            constructor = getattr(torchvision_models(), ours)
            found.append(Row(ours, "torchvision", constructor, shape, total, parameters, convolution, linear))
        if theirs is not None:
            found.append(Row(theirs, "timm", _timm(theirs), shape, total, parameters))
    for name, constructor, shape, convolution, linear, parameters in PLAIN:
        found.append(Row(name, "plain", constructor, shape, convolution + linear, parameters, convolution, linear))
    for name, parameters, printed in RESTORATION:
        found.append(_restoration(name, parameters, printed))
    cyclegan = _restoration("cyclegan_resnet9", 11_378_179, "56.8")
    return [*found, replace(cyclegan, total=CYCLEGAN_BY_OUTPUT_SIZE, convention="output_size")]


def count(row: Row) -> tuple[list[Any], bool]:
    """Counts a network; returns the line of the table and whether every integer is right."""
    with torch.device("meta"):
        model = row.build().eval()
        inputs = _inputs(row)
        graph = trace(model, inputs)
        independent = thop_count(model, inputs)
    kinds = Macs(row.convention).by_kind(graph)
    convolution = sum(value for kind, value in kinds.items() if kind.startswith("conv"))
    linear = kinds.get("linear", 0)
    total, parameters, thop = sum(kinds.values()), Params()(graph), Macs("thop_2019")(graph)
    right = (
        total == row.total
        and parameters == row.parameters
        and row.convolution in (None, convolution)
        and row.linear in (None, linear)
        and (row.printed is None or f"{total / 1e9:.{len(row.printed.split('.')[1])}f}" == row.printed)
        and _products(graph) == total - convolution - linear
        and thop == independent
    )
    line = [row.name, row.source, "x".join(map(str, inputs[0].shape)), row.convention, convolution, linear, total,
            parameters, thop, right]  # fmt: skip
    return line, right


def _products(graph: Graph) -> int:
    """Multiply-accumulates of products of two activations, from the shapes that torch recorded."""
    total = 0
    for node in graph.fx_graph.nodes:
        if str(node.target) in ("aten.matmul.default", "aten.bmm.default"):
            total += node.meta["val"].numel() * int(node.args[0].meta["val"].shape[-1])
    return total


def _restoration(name: str, parameters: int, printed: str | None) -> Row:
    found = variant(name)
    return Row(name, "ours", lambda: build(name), (1, found.channels, *found.size), found.macs, parameters,
               printed=printed)  # fmt: skip


def _inputs(row: Row) -> tuple[torch.Tensor, ...]:
    return example_inputs(row.name, *row.shape[-2:]) if row.source == "ours" else (torch.zeros(row.shape),)


def _timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm().create_model(name)
