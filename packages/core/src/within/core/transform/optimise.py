"""All free transforms in a sensible order, each kept where memory falls and the outputs stay what they were.

First the layout, which decides the workspace of all others; then what removes tensors; then the order of what is left.
Transforms open the way for each other (a concatenation that is gone uncovers the scratch of a transposed convolution),
so the list is gone through again until nothing falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from within.core.device.inference import evaluating
from within.core.errors import WithinError
from within.core.progress import track
from within.core.transform.editable import editable
from within.core.transform.lifetimes import resident_workspace
from within.core.transform.score import Ruler, Score
from within.core.transform.strips import strips_sites
from within.core.transform.table import TABLE, TRANSFORMS, Arguments

DEFAULT = (
    "channels_last",
    "batch_norm_folding",
    "in_place",
    "transposed_convolution",
    "concat_elimination",
    "detached_views",
    "concat_in_place",
    "minimise_order",
)
ONCE = ("channels_last", "batch_norm_folding")  # a second time they find nothing new
HARMLESS = ("channels_last", "in_place")  # kept where they do not raise the peak: they help the transforms after them
ROUNDS = 3
BANDS = (2, 4, 8, 16)
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Step:
    """One applied transform with the arguments that repeat it: JSON values."""

    name: str
    arguments: Arguments = field(default_factory=dict)


@dataclass(frozen=True)
class TransformResult:
    """A model that needs less memory and computes the same.

    Attributes:
        module: the graph module; it can be traced and pruned as any model.
        steps: what was applied, to be repeated on a freshly built model by `replay`.
        peak_before, peak_after: live_graph of the model and of the module, in bytes.
        resident_before, resident_after: the same with the workspace of PyTorch's CPU backend.
        max_abs_difference: between the outputs of the module and of the model on the inputs.
        rejected: transforms that were not kept, and why.
    """

    module: fx.GraphModule
    steps: tuple[Step, ...]
    peak_before: int
    peak_after: int
    resident_before: int
    resident_after: int
    max_abs_difference: float
    rejected: dict[str, str] = field(default_factory=dict)

    @property
    def applied(self) -> tuple[str, ...]:
        """Names of the transforms, in order."""
        return tuple(step.name for step in self.steps)


def optimise_memory(
    model: nn.Module,
    inputs: Sequence[Any],
    budget: int | None = None,
    transforms: Sequence[str] = DEFAULT,
    *,
    check: Sequence[Any] | None = None,
) -> TransformResult:
    """Lowers the peak memory of a model without changing what it computes.

    Arguments:
        model: any module that can be traced; it is left as it is.
        inputs: example inputs of the size to optimise for.
        budget: live_graph bytes; where the other transforms do not reach it, regions of local operators are run in as
            few bands of rows as do (`strips`), which computes some rows twice.
        transforms: names from `TRANSFORMS`, in the order to try them.
        check: inputs on which outputs are compared, by default `inputs`; smaller ones save time where the model
            takes other sizes.

    Returns:
        the module and what was done; `peak_after` may still exceed the budget.

    Raises:
        WithinError: for an unknown transform, or a model that cannot be traced.
    """
    unknown = [name for name in transforms if name not in TABLE]
    if unknown:
        raise WithinError(f"There is no transform named {unknown[0]!r}", todo=f"choose from {', '.join(TRANSFORMS)}")
    work = _Work(model, inputs, check if check is not None else inputs)
    before = work.score
    names = [name for name in transforms if name not in ("liveness", "strips")]
    for turn in range(ROUNDS):
        improved = [work.attempt(name) for name in track(names, f"memory transforms, round {turn + 1}")]
        if not any(improved):
            break
        names = [name for name in names if name not in ONCE]
    over = budget is not None and work.score.live_peak > budget
    if over or "strips" in transforms:
        work.band(budget)
    return TransformResult(
        work.module,
        tuple(work.steps),
        before.live_peak,
        work.score.live_peak,
        before.resident_peak,
        work.score.resident_peak,
        work.difference,
        {name: reason for name, reason in work.rejected.items() if name not in {step.name for step in work.steps}},
    )


def replay(model: nn.Module, inputs: Sequence[Any], steps: Sequence[Step]) -> fx.GraphModule:
    """Applies recorded steps to a freshly built model; nothing is searched or measured.

    Raises:
        WithinError: for an unknown transform, or a step that does not fit the model.
    """
    module = TRANSFORMS["liveness"](model, inputs)
    for step in steps:
        if step.name not in TRANSFORMS:
            raise WithinError(f"There is no transform named {step.name!r}", where="replay")
        try:
            module = TRANSFORMS[step.name](module, inputs, **step.arguments)
        except (StopIteration, KeyError, TypeError) as error:
            raise WithinError(
                f"The recorded transform does not fit the model: {error}",
                where=step.name,
                todo="replay on the model that it was recorded on",
            ) from error
    return module


class _Work:
    """The module so far, its score, and what has been done to it."""

    def __init__(self, model: nn.Module, inputs: Sequence[Any], check: Sequence[Any]) -> None:
        self.inputs, self.check = inputs, check
        self.reference = _outputs(model, check)
        self.ruler = Ruler(inputs, resident_workspace())
        self.module = editable(model, inputs)
        self.score: Score = self.ruler.measure(self.module)
        self.steps = [Step("liveness")]
        self.difference = 0.0
        self.rejected: dict[str, str] = {}

    def attempt(self, name: str) -> bool:
        """Tries one transform and keeps it if memory falls; returns whether it was kept."""
        arguments = TABLE[name].search(self.module, self.inputs)
        if arguments is None:
            self.rejected.setdefault(name, "nowhere lowers the peak")
            return False
        return self.apply(Step(name, arguments))

    def apply(self, step: Step) -> bool:
        """Applies a step and keeps it if memory falls and outputs agree."""
        trial = TRANSFORMS[step.name](self.module, self.inputs, **step.arguments)
        score = self.ruler.measure(trial)
        changed = str(trial.graph) != str(self.module.graph)
        harmless = step.name in HARMLESS and changed and score.no_worse_than(self.score)
        # normalisation by the batch is given up only for a lower peak; the others may also clear one of several
        better = score.lower_than if step.name == "batch_norm_folding" else score.better_than
        if not better(self.score) and not harmless:
            self.rejected.setdefault(step.name, "does not lower the peak")
            return False
        difference, scale = _difference(_outputs(trial, self.check), self.reference)
        if not difference <= TOLERANCE * max(1.0, scale):
            self.rejected[step.name] = f"changes the output by {difference:.2g}"
            return False
        self.module, self.score, self.difference = trial, score, difference
        self.steps.append(step)
        return True

    def band(self, budget: int | None) -> None:
        """Runs regions in bands: the fewest that meet the budget, or those that come closest to it."""
        start = (self.module, self.score, self.difference, list(self.steps))
        best = start
        for bands in BANDS if budget is not None else BANDS[1:2]:
            self.module, self.score, self.difference, self.steps = start[0], start[1], start[2], list(start[3])
            sites = strips_sites(self.module, self.inputs, bands=bands)
            if sites and self.apply(Step("strips", {"bands": bands, "sites": sites})):
                self.attempt("in_place")
                self.attempt("minimise_order")
            if self.score.live_peak < best[1].live_peak:
                best = (self.module, self.score, self.difference, list(self.steps))
            if budget is not None and self.score.live_peak <= budget:
                break
        self.module, self.score, self.difference, self.steps = best


def _outputs(model: nn.Module, inputs: Sequence[Any]) -> list[Tensor]:
    """Runs a model on copies of the inputs, in case it writes into them."""
    given = [item.clone() if isinstance(item, Tensor) else item for item in inputs]
    with evaluating(model):
        leaves = torch.utils._pytree.tree_leaves(model(*given))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _difference(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[float, float]:
    """Returns the largest absolute difference, and the largest absolute value of `second`."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if b.numel()]
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        return float("inf"), 0.0
    pairs = [(a.double(), b.double()) for a, b in pairs]  # masks and indices too
    difference = max((float((a - b).abs().max()) for a, b in pairs), default=0.0)
    return difference, max((float(b.abs().max()) for _, b in pairs), default=0.0)
