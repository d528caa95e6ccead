"""Peak memory: predicted against measured on five restoration networks, and what the free transforms save.

Each network at three image sizes, odd ones included (networks that need a multiple pad inside and crop). live_graph:
the prediction from the trace against the storage counter (a real run at the smallest size, fake tensors at the others);
they must be equal. RSS: the prediction with the packaged workspace table against a fresh process that runs the same
graph. Then `optimise_memory`: the model's own forward and the transformed module, each in a fresh process that builds
it anew and replays the recorded steps; RSS is the highest resident memory of a forward less what was resident before
it (after a run that warms up). Outputs are compared at sizes that the transforms were not made for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.bench import BenchResult
from within.core.cost import PeakMemory
from within.core.device.inference import evaluating
from within.core.device.memory import live_graph_measured, process_memory
from within.core.device.workspace import graph_workspace
from within.core.graph import trace
from within.core.progress import track
from within.core.transform import Step, TransformResult, optimise_memory, replay
from within.lowlevel.models import build, crop, pad_to_multiple, variant
from within.lowlevel.weights import load_weights

MEBIBYTE = 2**20
TOLERANCE = 1e-5  # of the outputs: relative to the largest one, and absolute


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        name: of the variant.
        title: in the table.
        sizes: height and width of the images; free transforms are measured at the first, outputs checked at the others.
        error: how far predicted RSS may be from measured, as a fraction.
        ratio: what RSS eager / transformed has to reach; None where no figure is asked for.
    """

    name: str
    title: str
    sizes: tuple[tuple[int, int], ...]
    error: float = 0.05
    ratio: float | None = None


CASES = (
    Case("dncnn_s", "DnCNN-S", ((512, 512), (301, 457), (255, 384)), ratio=1.4),
    Case("n2n_unet", "N2N U-Net", ((512, 512), (352, 480), (301, 457)), error=0.15, ratio=1.7),
    Case("imdn_x4", "IMDN x4", ((128, 128), (127, 161), (181, 95))),
    Case("pmrid", "PMRID", ((512, 512), (336, 624), (301, 457)), error=0.15),
    Case("dce_net", "DCE-Net", ((512, 512), (301, 457), (255, 384)), ratio=1.7),
)
MORE_SIZES = ((640, 480), (397, 403))  # with `full`
RUNS = 2  # the first warms up
WEIGHTS = {  # published ones, used where WITHIN_DATA has them: memory is the same with any, outputs are not
    "dncnn_s": "dncnn_s25_bn_saoyan.safetensors",
    "n2n_unet": "n2n_unet_gaussian_clean.safetensors",
    "imdn_x4": "imdn_x4.safetensors",
}


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` takes two more sizes and five runs in each process."""
    runs = 5 if full else RUNS
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        predictions = {
            f"{case.title} {height}x{width}": _predicted(case, (height, width), runs)
            for case in track(CASES, "predicted against measured")
            for height, width in (*case.sizes, *(MORE_SIZES if full and case.name != "imdn_x4" else ()))
        }
        savings = {case.title: _saved(case, runs) for case in track(CASES, "free transforms")}
    finally:
        torch.set_num_threads(threads)
    missed = [f"{name}: {what}" for name, figures in (predictions | savings).items() for what in figures["missed"]]
    figures = {"predicted": predictions, "free_transforms": savings, "missed": missed}
    columns = ("network", "figure", "predicted or eager MiB", "measured or ours MiB", "error or ratio", "target", "ok")
    return BenchResult("memory", not missed, figures, columns, _rows(predictions, savings))


# ---- networks, also built by name in the measuring processes


class Padded(nn.Module):
    """A network for images of any size: pads to the multiple that it needs, and crops."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Returns the output for an image (batch, channels, height, width) in [0, 1]."""
        height, width = image.shape[-2:]
        output = self.network(pad_to_multiple(image, self.network.size_multiple))
        return crop(output, height * self.network.scale, width * self.network.scale)


def network(name: str, padded: bool = False) -> nn.Module:
    """Builds a network in eval mode, with its published weights where they are there, else random ones."""
    model = build(name)
    weights = _published(name)
    if weights is not None:
        load_weights(model, weights)
    else:
        _randomise(model, torch.rand(1, variant(name).channels, 64, 64))
    return (Padded(model) if padded else model).eval()


def _published(name: str) -> Path | None:
    root, file = os.environ.get("WITHIN_DATA"), WEIGHTS.get(name)
    path = Path(root) / "lowlevel" / "weights" / file if root and file else None
    return path if path is not None and path.is_file() else None


def _randomise(model: nn.Module, image: Tensor) -> None:
    """Fills in weights that keep activations at their size from layer to layer, with outputs as large as an image."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            last = module
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    with evaluating(model):
        largest = float(model(image).abs().max())
        for parameter in last.parameters():
            parameter /= max(1.0, largest)


def transformed(name: str, shape: Sequence[int], steps: Sequence[Mapping[str, Any]]) -> nn.Module:
    """Builds a network and replays recorded transforms on it."""
    recorded = [Step(step["name"], step["arguments"]) for step in steps]
    return replay(network(name), (torch.rand(*shape),), recorded)


def _image(case: Case, size: tuple[int, int]) -> Tensor:
    return torch.rand(1, variant(case.name).channels, *size, generator=torch.Generator().manual_seed(1))


# ---- figures


def _predicted(case: Case, size: tuple[int, int], runs: int) -> dict[str, Any]:
    image = _image(case, size)
    padded = any(length % build(case.name).size_multiple for length in size)
    model = network(case.name, padded)
    graph = trace(model, (image,))
    live, resident = PeakMemory()(graph), PeakMemory(workspace=graph_workspace(counted=("max_pool",)))(graph)
    small = size == min(case.sizes, key=math.prod)
    counted = live_graph_measured(model, [image], compute=small).bytes
    measured = process_memory(
        f"{__name__}:network", [image], variant="graph", arguments={"name": case.name, "padded": padded}, runs=runs
    ).bytes
    error = resident / measured - 1
    missed = [] if live == counted else ["live_graph"]
    missed += [] if abs(error) <= case.error else ["RSS"]
    return {
        "live_graph_predicted": live,
        "live_graph_measured": counted,
        "rss_predicted": resident,
        "rss_measured": measured,
        "rss_error": round(error, 4),
        "tolerance": case.error,
        "padded": padded,
        "missed": missed,
    }


def _saved(case: Case, runs: int) -> dict[str, Any]:
    image, model = _image(case, case.sizes[0]), network(case.name)
    small = torch.nn.functional.interpolate(image, size=(64, 96))
    result = optimise_memory(model, (image,), check=(small,))
    steps = [asdict(step) for step in result.steps]
    eager = process_memory(f"{__name__}:network", [image], arguments={"name": case.name}, runs=runs).bytes
    ours = process_memory(
        f"{__name__}:transformed",
        [image],
        arguments={"name": case.name, "shape": list(image.shape), "steps": steps},
        runs=runs,
    ).bytes
    absolute, relative = _differences(case, model, result)
    counted = live_graph_measured(result.module, [image]).bytes
    ratio, error = eager / ours, result.resident_after / ours - 1
    missed = [] if max(absolute, relative) <= TOLERANCE else ["outputs"]
    missed += [] if case.ratio is None or ratio >= case.ratio else ["RSS ratio"]
    missed += [] if counted == result.peak_after else ["live_graph after the transforms"]
    missed += [] if abs(error) <= case.error else ["RSS after the transforms"]
    return {
        "size": list(case.sizes[0]),
        "weights": "random" if _published(case.name) is None else "published",
        "applied": list(result.applied),
        "rss_eager": eager,
        "rss_ours": ours,
        "rss_ratio": round(ratio, 3),
        "ratio_asked": case.ratio,
        "rss_ours_predicted": result.resident_after,
        "rss_ours_error": round(error, 4),
        "live_graph_before": result.peak_before,
        "live_graph_after": result.peak_after,
        "live_graph_after_measured": counted,
        "largest_absolute_difference": absolute,
        "largest_relative_difference": relative,
        "missed": missed,
    }


def _differences(case: Case, model: nn.Module, result: TransformResult) -> tuple[float, float]:
    """Returns the largest difference of the outputs: absolute, and relative to the largest output.

    At sizes that the transforms were not made for; those that the network does not take are left out.
    """
    multiple = build(case.name).size_multiple
    absolute = relative = 0.0
    for size in case.sizes[1:]:
        if any(length % multiple for length in size):
            continue
        image = _image(case, size)
        with evaluating(model), evaluating(result.module):
            reference = model(image)
            difference = float((result.module(image) - reference).abs().max())
        absolute = max(absolute, difference)
        relative = max(relative, difference / float(reference.abs().max()))
    return absolute, relative


def _rows(predictions: Mapping[str, Any], savings: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for name, found in predictions.items():
        live, counted = found["live_graph_predicted"], found["live_graph_measured"]
        equal = "live_graph" not in found["missed"]
        rows.append(
            (name, "live_graph", _mebibytes(live), _mebibytes(counted), f"{live - counted:+,} B", "equal", equal)
        )
        resident, measured = _mebibytes(found["rss_predicted"]), _mebibytes(found["rss_measured"])
        close, error = "RSS" not in found["missed"], f"{found['rss_error']:+.1%}"
        rows.append((name, "RSS", resident, measured, error, f"within {found['tolerance']:.0%}", close))
    for name, found in savings.items():
        title = f"{name} {'x'.join(map(str, found['size']))}"
        eager, ours, asked = _mebibytes(found["rss_eager"]), _mebibytes(found["rss_ours"]), found["ratio_asked"]
        ratio, reached = f"x{found['rss_ratio']:.2f}", "RSS ratio" not in found["missed"]
        target = "information" if asked is None else f">= {asked}"
        rows.append((title, "RSS eager / ours", eager, ours, ratio, target, reached if asked else "-"))
        before, after = found["live_graph_before"], found["live_graph_after"]
        live = (_mebibytes(before), _mebibytes(after), f"x{before / after:.2f}")
        rows.append((title, "live_graph before / after", *live, "information", "-"))
        absolute, relative = found["largest_absolute_difference"], found["largest_relative_difference"]
        same = "outputs" not in found["missed"]
        rows.append((title, "output difference", "", "", f"{absolute:.1e}, relative {relative:.1e}", "<= 1e-05", same))
    return rows


def _mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:.2f}"
