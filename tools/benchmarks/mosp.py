"""Memory-oriented pruning against its baselines: real weights, equal fine-tuning, equal peak memory.

Every arm gets the same calibration data, channel ranking, least-squares repair and fine-tuning; only the widths differ.
`--full` fits and fine-tunes all arms and stores them under `results/mosp/`; the default run loads those networks,
counts their peaks and measures their quality again.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within.core.bench import BenchResult
from within.core.cost import Macs, PeakMemory
from within.core.device.memory import live_graph_measured
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.progress import track
from within.core.pruning import load, read_plan, save_model
from within.core.pruning.checkpoint import PLAN, WEIGHTS
from within.core.pruning.plan import Plan, input_specs
from within.core.pruning.widths import WidthRules
from within.lowlevel.compress_job import calibration_batches, job_images, job_inputs, job_network, tune
from within.lowlevel.compress_settings import CompressSettings, FineTuning
from within.lowlevel.eval import evaluate
from within.lowlevel.fit_memory import Measured, fit_memory, measure_network
from within.lowlevel.free_transforms import apply_free_transforms
from within.lowlevel.models import build
from within.lowlevel.protocols import find_protocol

RESULTS = Path(__file__).parent / "results" / "mosp"
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
    allowed_loss: float | None = None  # dB below the dense network that the issue allows

    def settings(self, data: Path) -> CompressSettings:
        """Returns the job that fits this case."""
        return CompressSettings(
            network=self.network,
            weights=str(data / "weights" / self.weights),
            images=self.images if self.images == "samples" else str(data / self.images),
            sigma=self.sigma,
            size=self.size,
            fraction=self.fraction,
            step=1,
            fine_tuning=self.fine_tuning,
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
        "set12_sigma25_kair", "Set12", sigma=25.0, allowed_loss=0.3,
        fine_tuning=FineTuning(iterations=500, batch_size=16, patch_size=48, learning_rate=5e-4),
    ),
)  # fmt: skip


def run(full: bool = False) -> BenchResult:
    """Fits and fine-tunes all arms (`full`), then counts and measures them."""
    root = os.environ.get("WITHIN_DATA")
    if not root:
        raise WithinError("This bench needs the real weights", todo="set WITHIN_DATA to a folder that holds lowlevel/")
    data = Path(root) / "lowlevel"
    rows: list[tuple[Any, ...]] = []
    figures: dict[str, Any] = {}
    at_or_above, clear = [], []
    passed = True
    for case in CASES:
        settings = case.settings(data)
        named = job_network(settings)
        dense, inputs = named.model, job_inputs(named, settings)
        base, plan = _transformed(dense, inputs)
        transformed_peak = int(PeakMemory()(trace(base, inputs)))
        limit = case.fraction * transformed_peak
        if full:
            _train(case, settings, named, base, plan, inputs, limit)
        quality = {"dense": _quality(case, dense, data)}
        peaks = {"dense": int(PeakMemory()(trace(dense, inputs)))}
        for arm in track(ARMS, f"measuring {case.name}"):
            folder = RESULTS / _slug(case) / arm
            if not (folder / WEIGHTS).is_file():
                raise WithinError("This arm was not trained", where=str(folder), todo="run the bench with --full")
            model = load(folder, lambda case=case: build(case.network)).eval()
            peaks[arm] = live_graph_measured(model, inputs).bytes
            quality[arm] = _quality(case, model, data)
            macs = Macs()(trace(model, inputs))
            rows.append(
                (
                    case.name,
                    arm,
                    peaks[arm] / 2**20,
                    limit / 2**20,
                    macs / 1e9,
                    quality[arm],
                    quality[arm] - quality["dense"],
                )
            )
        best = max(quality[arm] for arm in OURS)
        rivals = {arm: quality[arm] for arm in ("uniform", "macs")}
        at_or_above.append(best >= max(rivals.values()))
        clear.append(best - max(rivals.values()) >= 0.1)
        loss = quality["dense"] - best
        within = case.allowed_loss is None or loss <= case.allowed_loss
        fits = all(peak <= limit for arm, peak in peaks.items() if arm != "dense")
        passed &= within and fits
        figures[_slug(case)] = {
            "dense_db": quality["dense"],
            "dense_peak_mib": peaks["dense"] / 2**20,
            "peak_after_free_transforms_mib": transformed_peak / 2**20,
            "limit_mib": limit / 2**20,
            "loss_db": loss,
            "allowed_loss_db": case.allowed_loss,
            "within_allowed_loss": within,
            "all_within_limit": fits,
            "db": {arm: quality[arm] for arm in ARMS},
            "peak_mib": {arm: peaks[arm] / 2**20 for arm in ARMS},
            "margin_over_uniform_and_macs_db": best - max(rivals.values()),
        }
    figures["at_or_above_everywhere"] = all(at_or_above)
    figures["by_0.1_db"] = f"{sum(clear)} of {len(CASES)}"
    passed &= all(at_or_above) and sum(clear) > len(CASES) / 2
    columns = ("network", "arm", "peak MiB", "limit MiB", "GMACs", "PSNR dB", "against dense dB")
    return BenchResult("mosp", passed, figures, columns, rows)


def _train(case, settings, named, base, plan, inputs, limit) -> None:  # type: ignore[no-untyped-def]
    images = job_images(settings)
    batches = calibration_batches(named, settings, images)
    plain: Measured | None = None
    for arm in track(ARMS, f"fitting {case.name}"):
        folder = RESULTS / _slug(case) / arm
        if (folder / WEIGHTS).is_file():
            continue  # an interrupted study continues
        method = "whole" if arm == "without_compactors" else arm
        if arm not in OURS and plain is None:
            plain = measure_network(base, inputs, batches, steps=plan.steps)
        fit = fit_memory(
            base, inputs, batches, limit, method=method, compactors=arm in OURS, rules=WidthRules(1),
            measured=None if arm in OURS else plain, plan=plan,
        )  # fmt: skip
        twin = _twin(case, fit.plan)
        if twin is not None:  # equal cuts are trained to equal weights: the seed decides everything random
            shutil.copytree(twin, folder)
            continue
        tune(fit.model, named, images, dataclasses.replace(settings, method=method), None)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(copy.deepcopy(fit.model).half().eval(), fit.plan, folder)  # half the bytes; measured as stored


def _twin(case: Case, plan: Plan) -> Path | None:
    """Returns the folder of an arm that was fitted by the same steps."""
    for arm in ARMS:
        folder = RESULTS / _slug(case) / arm
        if (folder / WEIGHTS).is_file() and _written(read_plan(folder / PLAN)) == _written(plan):
            return folder
    return None


def _written(plan: Plan) -> str:
    return json.dumps([dataclasses.asdict(step) for step in plan.steps], sort_keys=True)


def _transformed(dense: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[nn.Module, Plan]:
    return apply_free_transforms(dense, inputs, Plan(type(dense).__name__, input_specs(inputs)))


def _quality(case: Case, model: nn.Module, data: Path) -> float:
    protocol = find_protocol(case.protocol)
    dataset = protocol.dataset(data / case.gt, None if case.lq is None else data / case.lq)
    result = evaluate(model, dataset, protocol.metrics[:1])
    return float(result.mean[protocol.metrics[0].name])


def _slug(case: Case) -> str:
    return case.network
