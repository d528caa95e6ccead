"""How this process was started: alone, by torchrun or by Slurm; on which device; and how gradients are shared.

Workaround for mmengine 0.10.7: its launcher calls `torch.cuda.set_device` before it joins the process group, which
fails without CUDA, and it hands `device_ids=[local_rank]` to DistributedDataParallel, which CPU modules refuse. So the
process group is joined here, over gloo on CPU, before the Runner is built (it then leaves the launcher out), and the
module is wrapped with `device_ids=None` on CPU.
"""

from __future__ import annotations

import atexit
import gc
import os
import warnings
from dataclasses import dataclass

import torch
import torch.distributed as dist
from mmengine.dist import init_dist
from mmengine.model import MMDistributedDataParallel
from torch import nn

from within.core.errors import WithinError


@dataclass(frozen=True)
class Launch:
    """Where this process stands.

    Attributes:
        device: where the model is trained.
        rank, world_size: this process and the number of processes.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def distributed(self) -> bool:
        return self.world_size > 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def launch(device: str | torch.device | None = None) -> Launch:
    """Joins the process group that torchrun or Slurm has announced, if any, and chooses the device.

    Arguments:
        device: `cpu`, `cuda`, `cuda:1`, ...; None takes CUDA where there is one.

    Raises:
        WithinError: when CUDA is asked for and absent, or Slurm starts several CPU processes by itself.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise WithinError("There is no CUDA device here", where=f"device={device}", todo="pass device='cpu'")
    if not dist.is_initialized():
        if "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
            _join(chosen)
        elif int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
            if chosen.type == "cpu":
                raise WithinError(
                    "Slurm started several CPU processes", todo="start them through torchrun: srun torchrun ..."
                )
            init_dist("slurm", backend="nccl")
            atexit.register(_leave)
    if not dist.is_initialized():
        return Launch(chosen)
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return Launch(chosen, dist.get_rank(), dist.get_world_size())


def share_of_batch(batch_size: int, processes: int, *, least: int = 1, where: str | None = None) -> int:
    """Returns how many items of a batch each process takes.

    Arguments:
        batch_size: items of all processes together.
        processes: that share them.
        least: what each of them needs.
        where: what errors call the training.

    Raises:
        WithinError: when the batch cannot be divided evenly, or the shares are too small.
    """
    if batch_size % processes or batch_size // processes < least:
        raise WithinError(
            f"The batch size {batch_size} cannot be divided among {processes} processes"
            + (f", {least} or more each" if least > 1 else ""),
            where=where,
            todo="choose another batch_size, or a number of processes that divides it",
        )
    return batch_size // processes


def share_gradients(model: nn.Module, launched: Launch) -> nn.Module:
    """Wraps a model so that all processes train the same weights; alone, it is returned as it is."""
    if not launched.distributed:
        return model
    device_ids = None if launched.device.type == "cpu" else [launched.device.index]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch renames the argument; older versions know this name only
        return MMDistributedDataParallel(module=model, device_ids=device_ids, broadcast_buffers=False)


def share_buffers(model: nn.Module, launched: Launch) -> None:
    """Gives every process the buffers of the first: batch-norm statistics differ from rank to rank until then."""
    if launched.distributed:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def any_process(condition: bool, launched: Launch) -> bool:
    """Returns whether the condition holds on any process, the same answer everywhere."""
    if not launched.distributed:
        return condition
    flag = torch.tensor(float(condition), device=launched.device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())


def _join(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        gc.collect()  # a wrapped module that is still around would keep the group's threads beyond the interpreter
        dist.destroy_process_group()
