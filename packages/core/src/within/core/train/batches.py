"""What `fit` accepts as data, brought to one shape: a source of batches, addressed by item numbers.

A batch is `(inputs, target)`: `inputs` is one tensor or a tuple of tensors, passed to the network as its positional
arguments; `target` is whatever the loss wants, or None where only a teacher is imitated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from within.core.errors import WithinError
from within.core.train.randomness import seed_everything

Batch = tuple[Any, Any]


@runtime_checkable
class BatchSource(Protocol):
    """Data that delivers whole batches. The fast path: no Python call per item.

    A source may also have `item_name(index) -> str`, which error messages then use.
    """

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, generator: torch.Generator) -> Batch:
        """Returns the batch of the items `indices`; all its randomness comes from `generator`."""
        ...


class TensorBatches:
    """Items that lie in memory as tensors whose first axis counts them.

    Arguments:
        inputs: one tensor.
        target: a tensor of as many items, or None.
    """

    def __init__(self, inputs: Tensor, target: Tensor | None = None) -> None:
        if target is not None and len(target) != len(inputs):
            raise WithinError(f"There are {len(inputs)} inputs but {len(target)} targets")
        self.inputs, self.target = inputs, target

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Batch:
        """Returns the chosen rows."""
        return self.inputs[indices], None if self.target is None else self.target[indices]


class DatasetBatches:
    """A map-style dataset, one `__getitem__` per item; randomness inside it is seeded per batch.

    Arguments:
        dataset: anything with a length and items by number.
        collate: makes a batch of a list of items.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] = default_collate) -> None:
        self.dataset, self.collate = dataset, collate

    def __len__(self) -> int:
        return len(self.dataset)

    def item_name(self, index: int) -> str:
        """Returns the dataset's own name of an item where it has one, else its number."""
        named = getattr(self.dataset, "item_name", None)
        return str(named(index)) if callable(named) else f"item {index}"

    def batch(self, indices: Tensor, generator: torch.Generator) -> Batch:
        """Fetches the items one by one and collates them.

        Raises:
            WithinError: when an item is not a tensor or an `(inputs, target)` pair.
        """
        # Transforms draw from the global generators; seeding them here ties what they draw to the step.
        seed_everything(int(torch.randint(2**62, (), generator=generator)))
        collated = self.collate([self.dataset[index] for index in indices.tolist()])
        if isinstance(collated, Tensor):
            return collated, None
        if isinstance(collated, (tuple, list)) and len(collated) == 2:
            return collated[0], collated[1]
        raise WithinError(
            f"A batch of the training data is a {type(collated).__name__}, not (inputs, target)",
            where=type(self.dataset).__name__,
            todo="let each item be a tensor or a pair (inputs, target)",
        )


def as_source(data: Any, batch_size: int | None, workers: int | None) -> tuple[BatchSource, int, int]:
    """Returns (source, batch size, number of worker processes) for anything that `fit` accepts.

    Arguments:
        data: a `BatchSource`, a tensor or `(inputs, target)` pair of tensors, a map-style dataset, or a `DataLoader`,
            of which dataset, collation, batch size and workers are taken; the order is always `fit`'s own.
        batch_size: items a process and step; for a `DataLoader` None takes the loader's.
        workers: processes that prepare batches; None takes the loader's, else 0.

    Raises:
        WithinError: when the data are of another kind, cannot be addressed by number, are empty, or no size is given.
    """
    if isinstance(data, DataLoader):
        if isinstance(data.dataset, IterableDataset):
            raise WithinError(
                "The training data are a stream",
                where=type(data.dataset).__name__,
                todo="use a dataset with a length, addressed by number: only that can be resumed at the same place",
            )
        batch_size = data.batch_size if batch_size is None else batch_size
        workers = data.num_workers if workers is None else workers
        source: BatchSource = DatasetBatches(data.dataset, data.collate_fn)
    elif isinstance(data, Tensor):
        source = TensorBatches(data)
    elif isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        source = TensorBatches(*data)
    elif isinstance(data, TensorDataset) and len(data.tensors) <= 2:
        source = TensorBatches(*data.tensors)
    elif isinstance(data, BatchSource):
        source = data
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        source = DatasetBatches(data)
    else:
        raise WithinError(
            f"Training data of the kind {type(data).__name__} cannot be used",
            todo="pass tensors, a map-style dataset, a DataLoader or a batch source",
        )
    if batch_size is None:
        raise WithinError("The batch size is missing", todo="pass batch_size=")
    if len(source) == 0:
        raise WithinError("The training data are empty", where=type(data).__name__)
    return source, batch_size, workers or 0
