"""Training of any network with mmengine's Runner: in place, resumable to the bit, alone or on many processes.

The network is wrapped for the Runner while `fit` runs and comes back as the plain module it was.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from mmengine.hooks import EMAHook, Hook
from torch import nn

from within.core.device.inference import positional
from within.core.distill import Distillation, FeatureDistillation
from within.core.errors import WithinError, missing_extra
from within.core.files import write_json
from within.core.train.adapter import TrainedModel
from within.core.train.arguments import check_arguments
from within.core.train.batches import as_source
from within.core.train.checkpoint import AtomicCheckpointHook, checkpoints
from within.core.train.freeze import FreezeBatchNormHook
from within.core.train.history import HistoryHook
from within.core.train.launch import Launch, launch, share_buffers
from within.core.train.loop import StepLoop, Validate, ValidationLoop
from within.core.train.objective import Loss, Objective
from within.core.train.optimization import Schedule, optimizer_wrapper, schedule_configs
from within.core.train.progress_bar import ProgressHook
from within.core.train.randomness import MODEL, preserved_randomness, seed_everything, step_seed
from within.core.train.result import TrainingResult
from within.core.train.runner import QuietRunner
from within.core.train.steps import StepLoader
from within.core.train.stop import StopHook, TrainingStoppedError, stop_requests
from within.core.train.surroundings import (
    channels_last_is_safe,
    deterministic_algorithms,
    disk_errors,
    training_state,
)


def fit(
    model: nn.Module,
    data: Any,
    *,
    iterations: int,
    batch_size: int | None = None,
    loss: Loss | None = None,
    teacher: nn.Module | None = None,
    distillation: Distillation | Sequence[Distillation] = (),
    objective: Callable[..., Any] | None = None,
    optimizer: Mapping[str, Any] = {"type": "Adam", "lr": 1e-3},
    schedule: Schedule = None,
    clip_gradients: float | None = None,
    parameter_options: Mapping[str, Any] | None = None,
    ema: float | None = None,
    freeze_batch_norm_at: int | None = None,
    validate: Validate | None = None,
    validate_every: int | None = None,
    run_directory: str | Path | None = None,
    checkpoint_every: int = 1000,
    keep_checkpoints: int = 2,
    resume: bool = False,
    seed: int = 0,
    deterministic: bool = False,
    device: str | torch.device | None = None,
    precision: str | None = None,
    channels_last: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    log_every: int = 50,
    tensorboard: bool = False,
    hooks: Sequence[Hook] = (),
    description: str = "Training",
) -> TrainingResult:
    """Trains `model` in place.

    The same arguments give the same weights, bit for bit on CPU with an equal number of threads, whether the run is
    interrupted and resumed or not. Under torchrun or Slurm every process calls `fit` and gets the same weights.

    Arguments:
        model: any module, `fx.GraphModule` included.
        data: tensors `inputs` or `(inputs, target)`, a map-style dataset of such items, a `DataLoader` (its dataset,
            collation, batch size and workers are taken) or a `BatchSource`.
        iterations: optimizer steps in all.
        batch_size: items a step and process.
        loss: `loss(output, target) -> scalar`.
        teacher, distillation: the network to imitate and how; without `loss`, targets are not needed.
        objective: instead of the three above, `objective(network, inputs, target) -> {name: scalar}` for training that
            does more than one forward pass; where it is a module, its parameters are trained along.
        optimizer: class of torch.optim and its arguments.
        schedule: None, `"cosine"`, `"warm_cosine"`, or mmengine schedulers, counted in iterations.
        clip_gradients: largest norm of all gradients together.
        parameter_options: mmengine's `paramwise_cfg`, e.g. `{"norm_decay_mult": 0}`.
        ema: decay of the exponential moving average of weights and statistics, which the model ends with.
        freeze_batch_norm_at: iteration from which batch norm keeps its running statistics (0: from the start).
        validate: `validate(network) -> {name: figure}`, called every `validate_every` iterations and at the end.
        run_directory: receives `checkpoints/`, `logs/` and `training.json`; None keeps nothing.
        checkpoint_every, keep_checkpoints: how often a checkpoint is written, and how many stay.
        resume: continue from the last checkpoint in the run directory, if there is one.
        seed: decides the order of the items and all random numbers.
        deterministic: on CUDA, only algorithms that repeat to the bit.
        device: None takes CUDA where there is one.
        precision: `float16` (CUDA) or `bfloat16` (CUDA, and CPUs with AVX512-BF16 or AMX) for mixed precision.
        channels_last: lay out weights and images so during training; faster for convolutions on CPU and CUDA. Not done
            on a CPU where it would crash (see `channels_last_is_safe`).
        threads: CPU threads of torch during training.
        workers: processes that prepare batches ahead.
        log_every: iterations a line of the log and an entry of `losses` cover.
        tensorboard: log for TensorBoard as well.
        hooks: further mmengine hooks.
        description: label of the progress bar.

    Returns:
        The trained model with the record of the run.

    Raises:
        WithinError: bad arguments or data; NaN in weights, data or loss; a checkpoint that cannot be written (earlier
            ones stay) or read; the run directory holds checkpoints and `resume` is not set.
        TrainingStoppedError: Ctrl-C or SIGTERM; everything up to there is in the checkpoint it names.
    """
    started = time.perf_counter()
    check_arguments(model, iterations, seed, checkpoint_every, ema, validate, validate_every, teacher, objective, loss)
    source, batch_size, workers = as_source(data, batch_size, workers)
    launched = launch(device)
    channels_last = channels_last and channels_last_is_safe(model, launched.device)
    wrapper = optimizer_wrapper(
        optimizer,
        clip_gradients=clip_gradients,
        parameter_options=parameter_options,
        precision=precision,
        device=launched.device,
    )
    schedulers = schedule_configs(schedule, iterations)
    settings = {
        "iterations": iterations,
        "batch_size": batch_size,
        "processes": launched.world_size,
        "items": len(source),
        "seed": seed,
        "optimizer": repr(wrapper),
        "schedule": repr(schedulers),
        "precision": precision,
        "ema": ema,
        "freeze_batch_norm_at": freeze_batch_norm_at,
    }
    checkpoint_folder, last = _checkpoint_folder(run_directory, resume)
    history = HistoryHook(log_every)
    loader = StepLoader(
        source,
        batch_size=batch_size,
        steps=iterations,
        seed=seed,
        rank=launched.rank,
        world_size=launched.world_size,
        workers=workers,
    )

    with ExitStack() as stack:
        stack.enter_context(preserved_randomness())
        request = stack.enter_context(stop_requests())
        stack.enter_context(training_state(model, teacher, launched, channels_last, threads))
        seed_everything(step_seed(seed, 0, 0, MODEL))  # distillation adapters draw their first weights
        objective = objective or _objective(model, loader, launched, loss, teacher, distillation)
        saver = AtomicCheckpointHook(checkpoint_folder, interval=checkpoint_every, keep=keep_checkpoints)
        stopper = StopHook(request, saver if run_directory is not None else None, launched)
        progress = ProgressHook(description) if launched.is_main else None
        logs = stack.enter_context(_log_folder(run_directory))
        custom: list[Any] = [history, stopper, *hooks]
        if progress is not None:
            stack.callback(progress.close)
            custom.append(progress)
        if freeze_batch_norm_at is not None:
            custom.append(FreezeBatchNormHook(freeze_batch_norm_at))
        average = None if ema is None else EMAHook("ExponentialMovingAverage", momentum=1 - ema, update_buffers=True)
        if average is not None:
            custom.append(average)
        if deterministic:
            stack.enter_context(deterministic_algorithms())
        with disk_errors(logs):
            runner = QuietRunner(
                launched=launched,
                settings=settings,
                model=TrainedModel(model, objective, channels_last=channels_last),
                work_dir=str(logs),
                train_dataloader=loader,
                train_cfg={
                    "type": StepLoop,
                    "max_iters": iterations,
                    "val_interval": validate_every or iterations,
                    "teacher": teacher,
                    "history": history,
                },
                optim_wrapper=wrapper,
                param_scheduler=schedulers or None,
                **_validation(validate, launched),
                default_hooks={
                    "sampler_seed": None,  # the order of the items is the loader's affair
                    "logger": {"type": "LoggerHook", "interval": log_every, "log_metric_by_epoch": False},
                    "checkpoint": saver if run_directory is not None else None,
                },
                custom_hooks=custom,
                load_from=None if last is None else str(last),
                resume=last is not None,
                log_processor={"by_epoch": False, "window_size": log_every},
                visualizer={"type": "Visualizer", "vis_backends": _backends(run_directory, tensorboard)},
                randomness={"seed": seed},
                experiment_name=f"fit-{uuid4().hex}",
            )
            stack.callback(runner.release)
            runner.train()
        if stopper.stopped_at is not None:
            raise _stopped(stopper.stopped_at, saver if run_directory is not None else None)
        if average is not None:
            average._swap_ema_parameters()
        share_buffers(model, launched)

    result = TrainingResult(
        model=model,
        iterations=iterations,
        losses=tuple(history.losses),
        metrics=tuple(history.metrics),
        seconds=time.perf_counter() - started,
        resumed_from=None if last is None else int(last.stem.split("_")[1]),
        checkpoint=checkpoints(checkpoint_folder)[-1] if run_directory is not None else None,
    )
    if run_directory is not None and launched.is_main:
        record = {"settings": settings, "losses": result.losses, "metrics": result.metrics, "seconds": result.seconds}
        write_json(Path(run_directory) / "training.json", record)
    return result


def _checkpoint_folder(run_directory: str | Path | None, resume: bool) -> tuple[Path, Path | None]:
    """Returns the folder and the checkpoint to resume from."""
    if run_directory is None:
        if resume:
            raise WithinError("Without a run directory there is nothing to resume", todo="pass run_directory=")
        return Path(), None
    folder = Path(run_directory) / "checkpoints"
    existing = checkpoints(folder)
    if existing and not resume:
        raise WithinError(
            "The run directory already holds checkpoints",
            where=str(folder),
            todo="resume that run (resume=True), or choose another run directory",
        )
    return folder, existing[-1] if existing else None


@contextmanager
def _log_folder(run_directory: str | Path | None) -> Iterator[Path]:
    if run_directory is not None:
        yield Path(run_directory) / "logs"
        return
    with tempfile.TemporaryDirectory(prefix="within-fit-") as folder:
        yield Path(folder)


def _objective(
    model: nn.Module,
    loader: StepLoader,
    launched: Launch,
    loss: Loss | None,
    teacher: nn.Module | None,
    distillation: Distillation | Sequence[Distillation],
) -> Objective:
    objective = Objective(loss, teacher, distillation)
    for term in objective.terms:
        if isinstance(term, FeatureDistillation) and teacher is not None:
            values = (value.to(launched.device) for value in positional(loader[0][0]))
            term.prepare(model, teacher, tuple(values))
    return objective


def _validation(validate: Validate | None, launched: Launch) -> dict[str, Any]:
    if validate is None:
        return {}
    config = {"type": ValidationLoop, "validate": validate, "launched": launched}
    return {"val_dataloader": [0], "val_evaluator": [], "val_cfg": config}  # the first two: mmengine insists


def _backends(run_directory: str | Path | None, tensorboard: bool) -> list[dict[str, Any]]:
    backends = [] if run_directory is None else [{"type": "LocalVisBackend"}]
    if tensorboard:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except Exception as error:  # a broken torchvision beside it raises RuntimeError
            raise missing_extra("within-core", "tensorboard", error) from error
        backends.append({"type": "TensorboardVisBackend"})
    return backends


def _stopped(iteration: int, saver: AtomicCheckpointHook | None) -> TrainingStoppedError:
    if saver is None:
        return TrainingStoppedError(
            f"Training was stopped after iteration {iteration}; nothing was saved",
            todo="pass a run directory to make it resumable",
        )
    return TrainingStoppedError(
        f"Training was stopped after iteration {iteration}; everything up to there is saved",
        where=str(saver.last_ckpt),
        todo="run the same command again with resume to go on",
    )
