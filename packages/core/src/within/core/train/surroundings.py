"""What surrounds a run: devices, layouts, modes, threads and switches of torch, set for it and put back afterwards."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from within.core.device.inference import device_of
from within.core.errors import WithinError
from within.core.train.launch import Launch

NARROW = 16
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def training_state(
    model: nn.Module, teacher: nn.Module | None, launched: Launch, channels_last: bool, threads: int | None
) -> Iterator[None]:
    """Sets devices, layouts, modes and threads for the training and puts them back afterwards."""
    networks = [model] if teacher is None else [model, teacher]
    modes = [(module, module.training) for network in networks for module in network.modules()]
    previous_threads = torch.get_num_threads()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    places = [device_of(network) for network in networks]
    for network in networks:
        network.to(launched.device)
        if channels_last:
            network.to(memory_format=layout)  # type: ignore[call-overload]
    if teacher is not None:
        teacher.eval()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(previous_threads)
        for network, place in zip(networks, places, strict=True):
            network.to(place)
            if channels_last:
                network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for module, mode in modes:
            module.training = mode
        model.zero_grad(set_to_none=True)


def channels_last_is_safe(model: nn.Module, device: torch.device) -> bool:
    """Whether a network can be trained in the channels-last layout on a device.

    The gradient of a strided 1 x 1 convolution of fewer than 16 channels overwrites foreign memory on CPUs in that
    layout (PyTorch 2.13 with oneDNN): the process crashes, or worse.
    """
    return device.type != "cpu" or not any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < NARROW
        for module in model.modules()
    )


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Refuses CUDA algorithms whose results differ from run to run."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


@contextmanager
def disk_errors(logs: Path) -> Iterator[None]:
    """Turns a full or read-only disk, met while logging, into an error that says what to do.

    Raises:
        WithinError: instead of the OSError; other errors of the operating system pass through.
    """
    try:
        yield
    except OSError as error:
        ours = error.filename is not None and str(error.filename).startswith(str(logs))
        if error.errno not in _DISK and not ours:
            raise
        raise WithinError(
            f"Training could not write its files: {error.strerror or error}",
            where=str(error.filename or logs),
            todo="free disk space or choose another run directory, then resume: earlier checkpoints are intact",
        ) from error
