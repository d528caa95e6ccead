"""Calibrators against NVIDIA's, on the same tensors: pytorch-quantization 2.1.3 and Model Optimizer 0.47.0.

The tensors are the activations of a CIFAR ResNet-20 on real images, batch after batch, and synthetic distributions
with tails, ties and one sign only. Maximum and percentile must be equal, squared error and entropy within one bin. Two
faults of the partners are mended for the comparison: pytorch-quantization moves its histogram to a GPU, and Model
Optimizer passes the number of bits as a bias, so that its squared error always takes the first candidate.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from tools.benchmarks.networks.real import cifar_images, trained_cifar_resnet
from torch import nn

from within.core.bench import BenchResult
from within.core.errors import WithinError
from within.core.progress import track
from within.core.quantize.calibrators import calibrator

PARTNERS = {"pytorch-quantization": "pytorch_quantization", "Model Optimizer": "modelopt.torch.quantization"}
EXACT = ("max", "percentile")
BINS_APART = 1.001  # one bin, and the rounding of its edges
STRIDE = 8  # NVIDIA's entropy takes seconds a tensor at stride 1
BATCHES, BATCH = 3, 64


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` searches every candidate of the histogram instead of every eighth."""
    stride = 1 if full else STRIDE
    apart: dict[str, float] = {}
    compared: dict[str, int] = {}
    seconds: dict[str, list[float]] = {}
    for partner, path in PARTNERS.items():
        with _mended(path) as calib:
            for tensors in track(list(_streams().values()), f"comparing with {partner}"):
                for case, options in _cases(stride):
                    key = f"{partner}, {case}"
                    bins, ours, theirs = _compare(calib, case, options, tensors)
                    apart[key] = max(apart.get(key, 0.0), bins)
                    compared[key] = compared.get(key, 0) + 1
                    before = seconds.get(key, [0.0, 0.0])
                    seconds[key] = [before[0] + ours, before[1] + theirs]
    missed = [key for key, bins in apart.items() if bins > (0 if key.split(", ")[1] in EXACT else BINS_APART)]
    rows = [(*key.split(", ", 1), compared[key], apart[key], *seconds[key], key not in missed) for key in apart]
    figures = {
        "tensors": len(_streams()),
        "comparisons": sum(compared.values()),
        "bins_apart": {key: round(bins, 4) for key, bins in apart.items()},
        "missed": missed,
        "thresholds": {"bins_apart": {"max": 0, "percentile": 0, "mse": 1, "entropy": 1}},
    }
    columns = ("partner", "calibrator", "tensors", "most bins apart", "CPU-s ours", "CPU-s theirs", "ok")
    return BenchResult("calibrators", not missed, figures, columns, rows)


def _cases(stride: int) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "max", {}
    for percentile in (99.0, 99.9, 99.99, 99.999):
        yield "percentile", {"percentile": percentile}
    for method in ("mse", "entropy"):
        for bits, unsigned in ((8, False), (8, True), (4, False)):
            yield method, {"bits": bits, "unsigned": unsigned, "stride": stride}


def _compare(
    calib: ModuleType, method: str, options: dict[str, Any], tensors: list[torch.Tensor]
) -> tuple[float, float, float]:
    """Returns how many bins lie between the two results (for the maximum: 0 or 1), and the CPU seconds of both."""
    ours = calibrator(method, **options)
    started = time.thread_time()
    for tensor in tensors:
        ours.observe(tensor)
    found = float(ours.amax())
    ours_seconds = time.thread_time() - started
    started = time.thread_time()
    bits, unsigned = options.get("bits", 8), options.get("unsigned", False)
    theirs = calib.MaxCalibrator(8, None, False) if method == "max" else calib.HistogramCalibrator(bits, None, unsigned)
    for tensor in tensors:
        theirs.collect(tensor)
    if method == "max":
        expected = float(theirs.compute_amax())
    elif method == "percentile":
        expected = float(theirs.compute_amax("percentile", percentile=options["percentile"]))
    else:
        expected = float(theirs.compute_amax(method, stride=options["stride"]))
    theirs_seconds = time.thread_time() - started
    width = abs(found - expected) or 1.0 if method == "max" else float(theirs._calib_bin_edges[1])
    return abs(found - expected) / width, ours_seconds, theirs_seconds


def _streams() -> dict[str, list[torch.Tensor]]:
    """Returns batches by name."""
    generator = torch.Generator().manual_seed(0)

    def normal(count: int) -> torch.Tensor:
        return torch.randn(count, generator=generator)

    synthetic = {
        "normal": [normal(20_000) for _ in range(3)],
        "heavy tails": [normal(20_000) * normal(20_000) * normal(20_000)],
        "growing": [normal(20_000) * scale for scale in (1.0, 1.3)],
        "shrinking": [normal(20_000) * scale for scale in (3.0, 1.0)],
        "uniform": [torch.rand(20_000, generator=generator)],
        "few values": [normal(64), 0.5 * normal(64)],
    }
    return {**synthetic, **_activations()}


def _activations() -> dict[str, list[torch.Tensor]]:
    """Returns what the first, two middle and the last layer of a trained network read, batch by batch."""
    model = trained_cifar_resnet(20)
    images = cifar_images("train", count=BATCHES * BATCH)[0]
    names = ("conv", "blocks.2.conv2", "blocks.5.conv1", "linear")
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in names}

    def hook(name: str) -> Any:
        def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen[name].append(inputs[0].detach().clone())

        return keep

    for name in names:
        model.get_submodule(name).register_forward_pre_hook(hook(name))
    with torch.no_grad():
        for batch in images.split(BATCH):
            model(batch)
    return seen


@contextmanager
def _mended(path: str) -> Iterator[ModuleType]:
    """Yields a partner's `calib` module, mended for the time of the comparison."""
    try:
        calib = importlib.import_module(f"{path}.calib")
    except ImportError as error:
        raise WithinError(
            f"This bench needs {path.split('.')[0]} ({error})", todo="run make setup-integrations, or make bench"
        ) from error
    histogram = importlib.import_module(f"{path}.calib.histogram")
    cuda, function = torch.Tensor.cuda, histogram.fake_tensor_quant
    torch.Tensor.cuda = lambda self, *args, **options: self  # type: ignore[method-assign, assignment]
    if path.startswith("modelopt"):
        histogram.fake_tensor_quant = lambda x, amax, bits, unsigned: function(x, amax, None, bits, unsigned)
    try:
        yield calib
    finally:
        torch.Tensor.cuda, histogram.fake_tensor_quant = cuda, function  # type: ignore[method-assign]
