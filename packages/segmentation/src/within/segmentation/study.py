"""The pruning study: a dense network, and its pruned form trained from three different starts.

    LTH  the surviving weights as they were before training, trained again   (Frankle and Carbin, The Lottery Ticket
         Hypothesis, ICLR 2019, on channels)
    FT   the surviving weights as trained, trained on
    RI   the same architecture with fresh random weights, trained

Which channels survive is decided on the trained network, by the L1 norms of their filters. All arms have the schedule
of the dense network. This is `within segmentation study`.
"""

from __future__ import annotations

import copy
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from within.core import Macs, Params, trace
from within.core.checkpoint import WEIGHTS, load_into, load_state, save_model
from within.core.cli.configuration import read_config, read_dataclass
from within.core.cli.run_directory import open_run_directory, run_folder
from within.core.errors import WithinError
from within.core.files import read_json, write_json
from within.core.plan import Plan
from within.core.pruning import apply
from within.core.report import ReportTable
from within.core.train.launch import launch
from within.core.train.randomness import seeded
from within.segmentation.data import SegmentationPairs, TrainingCrops, find_dataset
from within.segmentation.eval import evaluate
from within.segmentation.models import build
from within.segmentation.models.initialise import initialise
from within.segmentation.named_network import first_plan
from within.segmentation.prediction import height_width
from within.segmentation.stage_pruning import prune_stages
from within.segmentation.train import start, train_network, training_crops
from within.segmentation.training_settings import TrainingSettings

Arm = Literal["LTH", "FT", "RI"]
ARMS: tuple[Arm, ...] = ("LTH", "FT", "RI")
RESULT = "result.json"
FRESH = 1_000_003  # keeps the random arm's seed apart from that of the dense network


@dataclass(frozen=True)
class StudySettings:
    """What is compared.

    Attributes:
        training: of the dense network and of every arm, see `TrainingSettings`.
        cuts: stages that are cut, by the name of the row.
        fraction: of their widths that stays.
        seeds: each trains a dense network and all arms of all cuts.
        arms: some of LTH, FT and RI.
        count_size: height and width for which multiply-accumulates are counted.
    """

    training: TrainingSettings
    cuts: Mapping[str, Sequence[int]] = field(
        default_factory=lambda: {"first two blocks": (1, 2), "all four blocks": (1, 2, 3, 4)}
    )
    fraction: float = 0.5
    seeds: Sequence[int] = (0,)
    arms: Sequence[str] = ARMS
    count_size: Sequence[int] | None = None

    def __post_init__(self) -> None:
        wrong = [arm for arm in self.arms if arm not in ARMS]
        if wrong:
            raise WithinError(f"There is no arm {wrong[0]!r}", todo=f"choose among {', '.join(ARMS)}")


@dataclass(frozen=True)
class Trained:
    """One trained network.

    Attributes:
        cut: name of the cut, or "dense".
        arm: LTH, FT, RI, or "dense".
        seed: of initialisation and training.
        parameters, macs: counted on the network.
        mean_iou: V0, on the validation split, in per cent.
        cpu_seconds: of the training process.
    """

    cut: str
    arm: str
    seed: int
    parameters: int
    macs: int
    mean_iou: float
    cpu_seconds: float


def main(
    config: str | Path | Mapping[str, Any],
    *,
    run_directory: str | Path | None = None,
    device: str | torch.device | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Path, list[Trained]]:
    """Runs the study of a configuration; what is finished already in the run directory is not done again.

    Returns:
        The run directory with a folder for every network, and the results.

    Raises:
        WithinError: for unknown or missing settings, and as training does.
    """
    read, where = read_config(config, overrides)
    settings = study_settings(read.to_dict(), where=where, folder=Path(read.filename or "").parent)
    directory = run_folder(settings.training.name, run_directory)
    with open_run_directory(directory, read, resume=True) as folder:
        return folder, study(settings, folder, device=device)


def study_settings(config: Mapping[str, Any], *, where: str, folder: Path = Path()) -> StudySettings:
    """Returns the settings of a configuration.

    Arguments:
        config: names and values as in `StudySettings`; `training` may have a key `config`, the file of a training
            configuration, whose settings the others replace.
        where: what errors call it.
        folder: that a relative path of this file starts from.

    Raises:
        WithinError: naming a key that is unknown or missing, or a contradiction.
    """
    given = config.get("training")
    if not isinstance(given, Mapping):
        raise WithinError("Nothing says how the networks are trained", where=where, todo="give training=dict(...)")
    if "config" in given:
        others = {name: value for name, value in given.items() if name != "config"}
        given = read_config(folder / given["config"], others)[0].to_dict()
    return read_dataclass(StudySettings, {**config, "training": given}, where)


def study(settings: StudySettings, folder: Path, *, device: str | torch.device | None = None) -> list[Trained]:
    """Trains all networks that are not yet there; each leaves a run directory that `open_network` reads.

    Arguments:
        settings: what is compared.
        folder: receives `dense-SEED` and `CUT-ARM-SEED`.
        device: None takes CUDA where there is one.

    Raises:
        WithinError: as training does; what was finished stays.
    """
    training = settings.training
    crops = training_crops(find_dataset(training.data, training.split), training.schedule)
    held_out = find_dataset(training.data, training.validation_split or "val")
    job = _Job(settings, folder, crops, held_out, launch(device).device)
    size = training.schedule.crop_size
    results = []
    for seed in settings.seeds:
        dense = start(replace(training, seed=seed))
        untrained = copy.deepcopy(dense.state_dict())
        plan = first_plan(dense, size, training.network, training.arguments, seed=seed)
        results.append(job.trained(dense, plan, "dense", "dense", seed))
        for cut, stages in settings.cuts.items():
            pruned = prune_stages(dense, (torch.zeros(1, 3, *size),), stages, settings.fraction, plan=plan)
            for arm in settings.arms:
                network = _start_of(arm, pruned.model, pruned.plan, training, untrained, seed)
                results.append(job.trained(network, pruned.plan, cut, arm, seed))
    return results


@dataclass(frozen=True)
class _Job:
    settings: StudySettings
    folder: Path
    crops: TrainingCrops
    held_out: SegmentationPairs
    device: torch.device

    def trained(self, network: nn.Module, plan: Plan, cut: str, arm: str, seed: int) -> Trained:
        """Trains a network in place and keeps it, or loads it where that was done before."""
        training = self.settings.training
        place = self.folder / (f"dense-{seed}" if arm == "dense" else f"{cut}-{arm}-{seed}".replace(" ", "-"))
        if (place / RESULT).is_file():
            load_into(network, load_state(place / WEIGHTS), where=str(place / WEIGHTS))
            return Trained(**read_json(place / RESULT))
        started = time.process_time()
        train_network(
            network,
            self.crops,
            training.schedule,
            run_directory=place,
            resume=place.is_dir(),
            device=self.device,
            description=place.name,
            **replace(training, seed=seed, keep_checkpoints=1).run_options(),
        )
        seconds = time.process_time() - started
        scores = evaluate(
            network,
            self.held_out,
            size=height_width(training.size),
            device=self.device,
            description=f"Evaluating {place.name}",
        ).scores()
        graph = trace(network, (torch.zeros(1, 3, *(self.settings.count_size or training.schedule.crop_size)),))
        found = Trained(cut, arm, seed, Params()(graph), Macs()(graph), 100 * scores.mean_iou, round(seconds, 1))
        save_model(network, plan, place)
        write_json(place / RESULT, asdict(found))
        shutil.rmtree(place / "checkpoints")
        return found


def _start_of(
    arm: str, pruned: nn.Module, plan: Plan, training: TrainingSettings, untrained: Mapping[str, Tensor], seed: int
) -> nn.Module:
    """Returns the pruned network as an arm starts."""
    if arm == "FT":
        return copy.deepcopy(pruned)
    if arm == "LTH":
        dense = build(training.network, **training.arguments)
        dense.load_state_dict(untrained)
        return apply(plan, dense)
    fresh = copy.deepcopy(pruned)
    seeded(seed + FRESH, lambda: initialise(fresh))
    return fresh


def table(results: Sequence[Trained]) -> ReportTable:
    """Returns the study's table: a row for each cut and arm, mIoU as mean and deviation over the seeds."""
    rows = []
    for cut, arm in dict.fromkeys((each.cut, each.arm) for each in results):
        same = [each for each in results if (each.cut, each.arm) == (cut, arm)]
        values = [each.mean_iou for each in same]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        rows.append(
            (cut, arm, same[0].parameters, round(same[0].macs / 1e9, 3), round(statistics.mean(values), 2),
             None if deviation is None else round(deviation, 2), len(values))
        )  # fmt: skip
    columns = ("cut", "start", "parameters", "GMACs", "mIoU, %", "deviation", "seeds")
    return ReportTable(
        "Pruned networks from three starts", columns, tuple(rows), "LTH: rewound; FT: trained on; RI: random"
    )
