"""Pruning to budgets: what is promised holds on the slim model itself, and bad input is refused with a reason."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from within.core import Budget, Macs, ModelBytes, Params, PeakMemory, WithinError, apply, load, prune, save, trace
from within.core.solve import InfeasibleBudget


class Residual(nn.Module):
    """A small net with residual addition, batch norm, depthwise convolution and concatenation."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.inner = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.outer = nn.Conv2d(2 * width, width, 1)
        self.head = nn.Linear(3 * width, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.norm(self.stem(image)))
        inner = torch.relu(self.depthwise(self.inner(first)))
        second = first + self.outer(inner)
        return self.head(torch.cat([second, inner], 1).mean((2, 3)))


INPUTS = (torch.zeros(2, 3, 16, 16),)
COSTS = {"macs": Macs(), "params": Params(), "bytes": ModelBytes(), "memory": PeakMemory()}


def _build() -> nn.Module:
    torch.manual_seed(0)
    return Residual()


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(COSTS)), st.floats(0.35, 0.95), min_size=1, max_size=3),
    st.sampled_from([1, 4, 8]),
)
def test_every_budget_holds_on_the_slim_model(fractions: dict[str, float], step: int) -> None:
    """Would catch a budget that only the prediction keeps, and one of several budgets that is forgotten."""
    model = _build()
    budgets = [Budget(COSTS[name], fraction=fraction) for name, fraction in fractions.items()]
    result = prune(model, INPUTS, budgets=budgets, step=step)
    slim, dense = trace(result.model, INPUTS), trace(model, INPUTS)
    for budget in budgets:
        assert budget.cost(slim) <= budget.resolve(dense)
    assert result.certificate.masked_slim_error < 1e-5
    assert result.certificate.predicted == tuple(budget.cost(slim) for budget in budgets)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 100), st.floats(0.3, 0.9))
def test_save_then_load_is_the_identity(seed: int, fraction: float) -> None:
    """Would catch a plan that replays differently, or weights that do not come back to the bit."""
    import tempfile

    model = _build()
    result = prune(model, INPUTS, widths=fraction, importance=lambda graph, **_: _random(graph, seed))
    with tempfile.TemporaryDirectory() as folder:
        save(result, f"{folder}/run")
        again = load(f"{folder}/run", Residual)
    image = torch.randn(3, 3, 12, 20)
    assert torch.equal(result.model.eval()(image), again.eval()(image))


def _random(graph, seed):  # type: ignore[no-untyped-def]
    import numpy as np

    generator = np.random.default_rng(seed)
    return {group.name: generator.random(group.size) for group in graph.channel_groups()}


def test_the_same_call_gives_the_same_plan() -> None:
    """Would catch an order of groups or ties that depends on memory addresses."""
    budgets = [Budget(Macs(), fraction=0.5), Budget(PeakMemory(), fraction=0.7)]
    plans = {prune(_build(), INPUTS, budgets=budgets).plan for _ in range(2)}
    assert len(plans) == 1


def test_the_dense_model_is_not_changed() -> None:
    model = _build().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = prune(model, INPUTS, widths=0.5)
    assert model.training
    assert result.model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_protected_layers_keep_their_width() -> None:
    """Would catch protection of one member that leaves its residual partners to be cut."""
    result = prune(_build(), INPUTS, widths=0.5, protect=["stem"])
    assert result.model.stem.out_channels == 24
    assert result.model.outer.out_channels == 24
    assert result.model.inner.out_channels == 24


def test_impossible_budget_names_what_holds_it() -> None:
    with pytest.raises(InfeasibleBudget, match=r"at least .* alive there"):
        prune(_build(), INPUTS, budgets=[Budget(PeakMemory(), limit=10)])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"widths": 0.5, "budgets": [Budget(Macs(), fraction=0.5)]},
        {"widths": 0.0},
        {"widths": {"nowhere": 0.5}},
        {"widths": 0.5, "protect": ["nowhere"]},
        {"widths": 0.5, "importance": "nothing"},
        {"widths": 0.5, "importance": "taylor"},
    ],
)
def test_contradictory_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(WithinError):
        prune(_build(), INPUTS, **arguments)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_must_be_possible(value: float) -> None:
    with pytest.raises(WithinError):
        Budget(Macs(), fraction=value)
    with pytest.raises(WithinError):
        Budget(Macs())


def test_nan_in_the_weights_is_named() -> None:
    model = _build()
    with torch.no_grad():
        model.inner.weight[0] = float("nan")
    with pytest.raises(WithinError, match=r"inner\.weight"):
        prune(model, INPUTS, widths=0.5)


def test_a_plan_refuses_another_model() -> None:
    """Would catch a plan applied to a model whose groups have other sizes."""
    result = prune(_build(), INPUTS, widths=0.5)
    with pytest.raises(WithinError, match="another model"):
        apply(result.plan, Residual(width=32))


def test_a_run_directory_that_exists_is_kept(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "precious").write_text("kept")
    with pytest.raises(WithinError, match="not empty"):
        save(prune(_build(), INPUTS, widths=0.5), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["precious"]


def test_weights_of_another_architecture_are_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    save(prune(_build(), INPUTS, widths=0.5), tmp_path / "half")
    save(prune(_build(), INPUTS, widths=0.75), tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "half" / "model.safetensors")
    with pytest.raises(WithinError, match=r"of another shape .*stem"):
        load(tmp_path / "half", Residual)


def test_truncated_weights_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    save(prune(_build(), INPUTS, widths=0.5), tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WithinError, match="Could not read the weights"):
        load(tmp_path / "run", Residual)


def test_a_plan_calls_nothing_outside_the_project(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Would catch a plan file that runs foreign code when it is loaded."""
    from within.core.plan import Plan, Step, input_specs

    plan = Plan("Residual", input_specs(INPUTS), (Step("os:system", {"command": "true"}),))
    with pytest.raises(WithinError, match="only call functions of this project"):
        apply(plan, _build())


def test_tied_weights_stay_tied_and_are_stored_once(tmp_path) -> None:  # type: ignore[no-untyped-def]
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 16, 1)
            self.middle = nn.Conv2d(16, 16, 1)
            self.again = self.middle
            self.last = nn.Conv2d(16, 3, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.last(self.again(torch.relu(self.middle(self.first(image)))))

    result = prune(Tied(), INPUTS, widths=0.5)
    save(result, tmp_path / "run")
    model = load(tmp_path / "run", Tied)
    assert model.again is model.middle
    assert model.middle.weight.shape[:2] == (8, 8)


@given(
    widths=st.lists(st.sampled_from([8, 24, 32, 48, 64, 100]), min_size=2, max_size=4),
    step=st.sampled_from([8, 16, 32]),
    fraction=st.floats(0.35, 0.9),
)
@settings(max_examples=12, deadline=None)
def test_strict_widths_are_multiples_in_small_groups_too(widths: list[int], step: int, fraction: float) -> None:
    """Would catch a width that hardware with blocks of channels rounds up again."""
    layers = [nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise([3, *widths])]
    model = nn.Sequential(
        *(part for layer in layers for part in (layer, nn.ReLU())), nn.Conv2d(widths[-1], 4, 1)
    ).eval()
    inputs = (torch.randn(1, 3, 8, 8),)
    try:
        slim = prune(model, inputs, budgets=[Budget(Macs(), fraction=fraction)], step=step, strict=True).model
    except InfeasibleBudget:
        return  # no multiple is left below it
    kept = [part.out_channels for part in slim if isinstance(part, nn.Conv2d)][:-1]
    assert all(now == before or now % step == 0 for now, before in zip(kept, widths, strict=True))
    assert kept != widths
