"""The order of the items: every item once an epoch, divided among processes, the same from wherever one starts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.train.batches import TensorBatches, as_source
from within.core.train.randomness import DATA, MODEL, step_seed
from within.core.train.steps import StepLoader


def loader(items: int, batch: int, steps: int, seed: int = 0, rank: int = 0, world: int = 1) -> StepLoader:
    source = TensorBatches(torch.arange(items))
    return StepLoader(source, batch_size=batch, steps=steps, seed=seed, rank=rank, world_size=world)


@given(items=st.integers(1, 30), batch=st.integers(1, 40), seed=st.integers(0, 2**31), world=st.integers(1, 4))
def test_every_item_is_visited_once_before_any_is_visited_twice(items, batch, seed, world):
    """Catches batches that skip the tail of an epoch, and processes that see the same items."""
    steps = -(-3 * items // (batch * world))
    ranks = [loader(items, batch, steps, seed, rank, world) for rank in range(world)]
    visited = [index for step in range(steps) for rank in ranks for index in rank.indices(step).tolist()]
    for epoch in range(3):
        assert sorted(visited[epoch * items : (epoch + 1) * items]) == list(range(items))


@given(items=st.integers(1, 30), batch=st.integers(1, 10), start=st.integers(0, 12))
def test_starting_late_gives_the_same_steps(items, batch, start):
    """Catches an order that depends on the steps before."""
    whole = [batch.tolist() for batch, _ in loader(items, batch, 13)]
    late = loader(items, batch, 13)
    late.start = start
    assert [batch.tolist() for batch, _ in late] == whole[start:]


def test_orders_differ_between_epochs_and_seeds():
    """Catches a permutation that is drawn once."""
    first, second = loader(50, 50, 2, 0), loader(50, 50, 2, 1)
    orders = [first.indices(0), first.indices(1), second.indices(0)]
    assert len({tuple(order.tolist()) for order in orders}) == 3


@given(st.integers(0, 10), st.integers(0, 10**9), st.integers(0, 64))
def test_streams_of_a_step_are_unrelated(seed, step, rank):
    """Catches coordinates that are added up, so that another rank or step draws the same numbers."""
    seeds = [
        step_seed(seed, step, rank, DATA),
        step_seed(seed, step, rank, MODEL),
        step_seed(seed, step, rank + 1, DATA),
        step_seed(seed, step + 1, rank, DATA),
        step_seed(seed + 1, step, rank, DATA),
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= value < 2**63 for value in seeds)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.utils.data.DataLoader(Stream(), batch_size=2), "are a stream"),
        (torch.zeros(0, 1), "are empty"),
        (7, "kind int cannot be used"),
        ((torch.zeros(3, 1), torch.zeros(2, 1)), "3 inputs but 2 targets"),
    ],
)
def test_unusable_data_are_refused_in_words(data, message):
    """Catches data that fail only when the first batch is asked for."""
    with pytest.raises(WithinError, match=message):
        as_source(data, 2, None)


def test_a_loader_lends_its_parts():
    """Catches a DataLoader whose collation or batch size is lost."""
    items = [(torch.zeros(1), 0), (torch.ones(1), 1)]
    dataset = torch.utils.data.DataLoader(items, batch_size=2, collate_fn=lambda batch: ("inputs", len(batch)))
    source, batch_size, workers = as_source(dataset, None, None)
    assert (batch_size, workers) == (2, 0)
    assert source.batch(torch.tensor([0, 1]), torch.Generator()) == ("inputs", 2)
