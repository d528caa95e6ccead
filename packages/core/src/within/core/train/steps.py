"""The batches of a training run, step by step, each a function of (seed, step, rank) alone.

The items are visited in an endless sequence of permutations. With B items a process and W processes, step s on rank r
takes the places [(s W + r) B, (s W + r + 1) B) of that sequence, so the run can start at any step without replaying the
ones before, and no item is visited twice before all were visited once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from within.core.train.batches import Batch, BatchSource
from within.core.train.randomness import DATA, ORDER, step_seed


class StepLoader:
    """Iterates over the batches from step `start` to the last.

    Arguments:
        source: where the batches come from.
        batch_size: items a process and step (B).
        steps: number of steps of the whole run.
        seed: seed of the run.
        rank, world_size: this process and the number of processes (r, W).
        workers: worker processes that prepare batches ahead; 0 prepares them in this process.
    """

    def __init__(
        self,
        source: BatchSource,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
    ) -> None:
        self.dataset = self.source = source  # mmengine asks a loader for its `dataset`
        self.batch_size, self.steps, self.seed, self.workers = batch_size, steps, seed, workers
        self.rank, self.world_size = rank, world_size
        self.start = 0
        self._orders: OrderedDict[int, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        if self.workers == 0:
            return (self[step] for step in range(self.start, self.steps))
        # A worker fetches whole steps, `sampler` says which; the loader itself collates nothing.
        loader: DataLoader[Batch] = DataLoader(
            self,  # type: ignore[arg-type]
            batch_size=None,
            sampler=range(self.start, self.steps),
            num_workers=self.workers,
            collate_fn=_unchanged,
            pin_memory=torch.cuda.is_available(),
        )
        return iter(loader)

    def __getitem__(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(step_seed(self.seed, step, self.rank, DATA))
        return self.source.batch(self.indices(step), generator)

    def indices(self, step: int) -> Tensor:
        """Returns the item numbers of this rank's batch at `step`."""
        count = len(self.source)
        place = (step * self.world_size + self.rank) * self.batch_size
        parts, missing = [], self.batch_size
        while missing:
            epoch, offset = divmod(place, count)
            part = self._order(epoch)[offset : offset + missing]
            parts.append(part)
            place, missing = place + len(part), missing - len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def item_names(self, step: int) -> list[str]:
        """Returns the names of the items of a batch, for messages."""
        named = getattr(self.source, "item_name", None)
        return [str(named(index)) if callable(named) else f"item {index}" for index in self.indices(step).tolist()]

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(step_seed(self.seed, epoch, 0, ORDER))
            self._orders[epoch] = torch.randperm(len(self.source), generator=generator)
            while len(self._orders) > 2:
                self._orders.popitem(last=False)
        return self._orders[epoch]


def _unchanged(batch: Any) -> Any:
    return batch
