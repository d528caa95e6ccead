"""Memory-oriented pruning against its baselines: real weights, equal fine-tuning, equal peak memory.

Every arm gets the same calibration data, channel ranking, least-squares repair and fine-tuning; only the widths differ.
The default run fits and fine-tunes `SHORT` arms for a few steps; `--full` all arms for longer, kept in the ignored
folder `runs/mosp`, where an interrupted study goes on. (Networks that descend from published weights have their
licences, so none of them is part of this project.) What is measured are always networks read back from disk.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from within.core.bench import BenchResult
from within.core.checkpoint import PLAN, WEIGHTS
from within.core.cost import Macs, PeakMemory
from within.core.device.memory import live_graph_measured
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.parallel import map as parallel_map
from within.core.plan import Plan, input_specs
from within.core.pruning import load, read_plan, save_model
from within.core.pruning.widths import WidthRules
from within.lowlevel.compress_job import calibration_batches, job_images, job_inputs, job_network, tune
from within.lowlevel.compress_settings import CompressSettings, FineTuning
from within.lowlevel.eval import evaluate
from within.lowlevel.fit_memory import Measured, fit_memory, measure_network
from within.lowlevel.free_transforms import apply_free_transforms
from within.lowlevel.models import build
from within.lowlevel.protocols import find_protocol

KEPT = Path("runs") / "mosp"
SHORT = ("whole", "uniform", "macs")
ARMS = ("whole", "strides", "without_compactors", "uniform", "macs", "magnitude")
OURS = ("whole", "strides")


@dataclass(frozen=True)
class Case:
    """A network, the limit it is fitted to, and how it is measured; `fraction` is of the peak after free transforms."""

    name: str
    network: str
    weights: str
    fraction: float
    size: tuple[int, int]
    images: str
    protocol: str
    gt: str
    lq: str | None = None
    sigma: float | None = None
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    short: int = 40  # iterations of the default run
    allowed_loss: float | None = None  # dB below the dense network that the issue allows

    def settings(self, data: Path, full: bool) -> CompressSettings:
        """Returns the job that fits this case."""
        iterations = self.fine_tuning.iterations if full else self.short
        return CompressSettings(
            network=self.network,
            weights=str(data / "weights" / self.weights),
            images=self.images if self.images == "samples" else str(data / self.images),
            sigma=self.sigma,
            size=self.size,
            fraction=self.fraction,
            step=1,
            fine_tuning=dataclasses.replace(self.fine_tuning, iterations=iterations),
        )


CASES = (
    Case(
        "N2N U-Net at 1/2", "n2n_unet", "n2n_unet_gaussian_clean.safetensors", 0.5, (512, 512), "samples",
        "kodak24_n2n", "Kodak_part", sigma=25.0, allowed_loss=0.5,
        fine_tuning=FineTuning(iterations=200, batch_size=8, patch_size=64, learning_rate=2e-4),
    ),
    Case(
        "IMDN x4 at 1/2", "imdn_x4", "imdn_x4.safetensors", 0.5, (128, 128), "samples",
        "set5_x4_y", "Set5/HR", "Set5/LR_x4",
        fine_tuning=FineTuning(iterations=200, batch_size=8, patch_size=32, learning_rate=2e-4),
    ),
    Case(
        "CARN-M x4 at 1/2", "carn_m_x4", "carn_m.safetensors", 0.5, (128, 128), "samples",
        "set5_x4_y", "Set5/HR", "Set5/LR_x4",
        fine_tuning=FineTuning(iterations=200, batch_size=8, patch_size=32, learning_rate=2e-4),
    ),
    Case(
        "DnCNN-25 at 3/4", "dncnn_merged", "dncnn_25_bnmerged_kair.safetensors", 0.75, (256, 256), "BSD400_part",
        "set12_sigma25_kair", "Set12", sigma=25.0, short=150, allowed_loss=0.3,
        fine_tuning=FineTuning(iterations=500, batch_size=16, patch_size=48, learning_rate=5e-4),
    ),
)  # fmt: skip


def run(full: bool = False) -> BenchResult:
    """Fits, fine-tunes and measures the arms of every case, two cases at a time."""
    root = os.environ.get("WITHIN_DATA")
    if not root:
        raise WithinError("This bench needs the real weights", todo="set WITHIN_DATA to a folder that holds lowlevel/")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = KEPT.resolve() if full else Path(temporary)
        work = partial(_study, data=Path(root) / "lowlevel", folder=folder, full=full)
        order = sorted(range(len(CASES)), key=lambda number: -CASES[number].short)  # the longest first
        found = dict(zip(order, parallel_map(work, order, workers=2, description="Fitting and tuning"), strict=True))
    figures: dict[str, Any] = {}
    rows: list[tuple[Any, ...]] = []
    for number, case in enumerate(CASES):
        figures[case.network], lines = found[number]
        rows += [(case.name, *line) for line in lines]
    cases = [figures[case.network] for case in CASES]
    clear = sum(each["margin_over_uniform_and_macs_db"] >= 0.1 for each in cases)
    above = all(each["margin_over_uniform_and_macs_db"] >= 0 for each in cases)
    passed = above and clear > len(cases) / 2
    passed &= all(each["within_allowed_loss"] and each["all_within_limit"] for each in cases)
    figures |= {"at_or_above_everywhere": above, "by_0.1_db": f"{clear} of {len(cases)}", "full": full}
    figures["seconds"] = round(time.perf_counter() - started)
    columns = ("network", "arm", "peak MiB", "limit MiB", "GMACs", "PSNR dB", "against dense dB")
    return BenchResult("mosp", passed, figures, columns, rows)


def _study(number: int, *, data: Path, folder: Path, full: bool) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """Returns the figures and the rows of one case."""
    case, arms = CASES[number], ARMS if full else SHORT
    settings = case.settings(data, full)
    named = job_network(settings)
    dense, inputs = named.model, job_inputs(named, settings)
    base, plan = apply_free_transforms(dense, inputs, Plan(type(dense).__name__, input_specs(inputs)))
    transformed_peak = int(PeakMemory()(trace(base, inputs)))
    limit = case.fraction * transformed_peak
    _train(folder / case.network, arms, settings, named, base, plan, inputs, limit)
    quality, peaks = {"dense": _quality(case, dense, data)}, {}
    rows: list[tuple[Any, ...]] = []
    for arm in arms:
        model = load(folder / case.network / arm, partial(build, case.network)).eval()
        peaks[arm] = live_graph_measured(model, inputs).bytes
        quality[arm] = _quality(case, model, data)
        macs, loss = Macs()(trace(model, inputs)), quality["dense"] - quality[arm]
        rows.append((arm, peaks[arm] / 2**20, limit / 2**20, macs / 1e9, quality[arm], -loss))
    best = max(quality[arm] for arm in arms if arm in OURS)
    loss = quality["dense"] - best
    figures = {
        "dense_peak_mib": PeakMemory()(trace(dense, inputs)) / 2**20,
        "peak_after_free_transforms_mib": transformed_peak / 2**20,
        "limit_mib": limit / 2**20,
        "peak_mib": {arm: peak / 2**20 for arm, peak in peaks.items()},
        "all_within_limit": all(peak <= limit for peak in peaks.values()),
        "db": quality,
        "loss_db": loss,
        "allowed_loss_db": case.allowed_loss,
        "within_allowed_loss": case.allowed_loss is None or loss <= case.allowed_loss,
        "margin_over_uniform_and_macs_db": best - max(quality["uniform"], quality["macs"]),
        "iterations": settings.fine_tuning.iterations,
    }
    return figures, rows


def _train(folder, arms, settings, named, base, plan, inputs, limit) -> None:  # type: ignore[no-untyped-def]
    images = job_images(settings)
    batches = calibration_batches(named, settings, images)
    plain: Measured | None = None
    for arm in arms:
        if (folder / arm / WEIGHTS).is_file():
            continue  # an interrupted study continues
        method = "whole" if arm == "without_compactors" else arm
        if arm not in OURS and plain is None:
            plain = measure_network(base, inputs, batches, steps=plan.steps)
        fit = fit_memory(
            base, inputs, batches, limit, method=method, compactors=arm in OURS, rules=WidthRules(1),
            measured=None if arm in OURS else plain, plan=plan,
        )  # fmt: skip
        if not fit.measured.skips:
            plain = fit.measured  # no compactor was worth its place
        twin = _twin(folder, arms, fit.plan)
        if twin is not None:  # equal cuts are trained to equal weights: the seed decides everything random
            shutil.copytree(twin, folder / arm)
            continue
        tune(fit.model, named, images, dataclasses.replace(settings, method=method), None)
        save_model(fit.model.eval(), fit.plan, folder / arm)


def _twin(folder: Path, arms: Sequence[str], plan: Plan) -> Path | None:
    """Returns the folder of an arm that was fitted by the same steps."""
    for arm in arms:
        path = folder / arm
        if (path / WEIGHTS).is_file() and _written(read_plan(path / PLAN)) == _written(plan):
            return path
    return None


def _written(plan: Plan) -> str:
    return json.dumps([dataclasses.asdict(step) for step in plan.steps], sort_keys=True)


def _quality(case: Case, model: nn.Module, data: Path) -> float:
    protocol = find_protocol(case.protocol)
    dataset = protocol.dataset(data / case.gt, None if case.lq is None else data / case.lq)
    result = evaluate(model, dataset, protocol.metrics[:1])
    return float(result.mean[protocol.metrics[0].name])
