"""Random compositions of small patterns: every promise of pruning at once, on networks that nobody chose."""

from __future__ import annotations

import tempfile

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.core.networks import PATTERNS, Composed, composed, image, random_kept, seeded
from torch import nn

from within.core import Budget, Macs, ModelBytes, Params, PeakMemory, load, prune, save, trace
from within.core.cost.macs import CONVENTIONS
from within.core.pruning.masked import MaskedReference, masked_slim_error
from within.core.pruning.slim import random_like, relative_difference, slim, tensors
from within.core.solve import InfeasibleBudget

COSTS = (*(Macs(convention) for convention in CONVENTIONS), Params(), ModelBytes(), PeakMemory())
SPANNING = ("GroupNormed", "LayerNormed")  # their statistics depend on which channels exist
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(quick, max_examples=18)
@given(model=composed(), seed=st.integers(0, 999), batch=st.integers(1, 3), prefer=st.sampled_from(["module", "graph"]))
def test_slim_is_masked_and_every_cost_is_what_was_predicted(model: nn.Module, seed: int, batch: int, prefer: str):
    """An index map that is off, a size that stays, an estimate with the dense width of a coupled layer."""
    inputs = image(batch)
    graph = trace(model, inputs)
    kept = random_kept(graph, seed)
    widths = {name: len(atoms) for name, atoms in kept.items()}
    cut = slim(graph, kept, prefer=prefer)
    assert masked_slim_error(graph, kept, cut) < 1e-5
    recount = trace(cut, inputs)
    for cost in COSTS:
        assert cost(graph, widths) == cost(recount), cost.name
    others = image(batch + 1)  # the example's batch is burned in nowhere
    with torch.no_grad():
        (reference,) = MaskedReference(trace(model, others), kept)(*others)
        assert relative_difference(cut.eval()(*others), reference) < 1e-5


@settings(quick, max_examples=12)
@given(model=composed(exclude=SPANNING), seed=st.integers(0, 999))
def test_slim_is_the_users_own_dense_model_with_zeros(model: nn.Module, seed: int):
    """Without our masked reference: the user's own forward, with every parameter of a removed channel set to zero."""
    graph = trace(model, image())
    kept = random_kept(graph, seed, fraction=0.6)
    cut = slim(graph, kept)
    with torch.no_grad():
        assume(relative_difference(cut(*image()), cut(torch.ones_like(image()[0]))) > 1e-6)  # not a dead network
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    before = model(*image())
    with torch.no_grad():
        for group in graph.channel_groups():
            gone = torch.ones(group.size, dtype=torch.bool)
            gone[kept[group.name]] = False
            for member in group.parameters:
                atoms = torch.from_numpy(member.atoms)
                positions = ((atoms >= 0) & gone[atoms.clamp(min=0)]).nonzero().flatten()
                value = 1.0 if member.tensor.endswith("running_var") else 0.0
                state[member.tensor].index_fill_(member.axis, positions, value)
        dense, result = model(*image()), cut(*image())
        assume(not torch.equal(dense, before))  # nor a cut of dead channels
        assert relative_difference(result, dense) < 1e-5


@settings(quick, max_examples=8)
@given(model=composed(), seed=st.integers(0, 999), batch=st.integers(1, 2))
def test_another_choice_of_channels_is_told_apart(model: nn.Module, seed: int, batch: int):
    """A comparison that any cut of these widths would pass proves nothing."""
    graph = trace(model, image(batch))
    kept = random_kept(graph, seed, fraction=0.5)
    first = next(name for name in kept if len(kept[name]) < graph.group(name).size)
    rest = [atom for atom in range(graph.group(first).size) if atom not in kept[first]]
    other = kept | {first: sorted([*kept[first][1:], rest[0]])}
    outputs = [MaskedReference(graph, choice)(*random_like(graph.inputs))[0] for choice in (kept, other)]
    assume(relative_difference(*outputs) > 2e-5)  # not two dead channels
    assert masked_slim_error(graph, kept, slim(graph, other)) > 1e-5


@settings(quick, max_examples=8)
@given(
    model=composed(most=3),
    cost=st.sampled_from(COSTS),
    other=st.sampled_from(COSTS),
    fraction=st.floats(0.4, 0.9),
    step=st.sampled_from([1, 2, 8]),
)
def test_budgets_are_never_exceeded(model: nn.Module, cost, other, fraction: float, step: int):
    """Either every budget holds on the slim model itself, or the budget is refused."""
    budgets = [Budget(cost, fraction=fraction), Budget(other, fraction=0.95)]
    try:
        result = prune(model, image(), budgets=budgets, step=step, minimum=0.1)
    except InfeasibleBudget:
        return
    dense, cut = trace(model, image()), trace(result.model, image())
    for budget in budgets:
        assert budget.cost(cut) <= budget.resolve(dense)
    assert result.certificate.masked_slim_error < 1e-5


@settings(quick, max_examples=8)
@given(model=composed(most=3), seed=st.integers(0, 999), fraction=st.floats(0.2, 0.9))
def test_save_then_load_is_the_identity(model: nn.Module, seed: int, fraction: float):
    """A plan that replays differently on a model of other weights, or weights that do not come back to the bit."""
    generator = torch.Generator().manual_seed(seed)
    pruned = prune(
        model,
        image(),
        widths=fraction,
        importance=lambda graph, **_: {
            group.name: torch.rand(group.size, generator=generator).numpy() for group in graph.channel_groups()
        },
    )

    def fresh() -> nn.Module:
        again = type(model)(model.patterns, model.head, model.stem.conv.out_channels)
        return again.eval()

    with tempfile.TemporaryDirectory() as folder:
        save(pruned, f"{folder}/run")
        again = load(f"{folder}/run", fresh).eval()
    assert type(again) is type(pruned.model) or isinstance(again, torch.fx.GraphModule)
    with torch.no_grad():
        for first, second in zip(tensors(pruned.model.eval()(*image(2))), tensors(again(*image(2))), strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_every_pattern_can_be_cut(name: str):
    """A pattern whose channels are all left alone would make the random networks easy."""
    graph = trace(seeded(Composed([(name, 6)], "pooled")), image())
    inside = [group for group in graph.channel_groups() if any("blocks.0" in item.tensor for item in group.parameters)]
    assert inside
