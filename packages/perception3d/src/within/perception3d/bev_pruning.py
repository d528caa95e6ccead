"""Narrower and shallower 2-D backbones: train large, then compress.

Widths come from the core's knapsack under a budget of MACs, memory or measured latency of the dense part; whole
convolutions go where that leaves less loss (Shen et al.: HALP, NeurIPS 2022, prunes by latency look-ups; layers as in
its extension to 3-D detection). The head keeps its outputs, and what the importance predictor reads is cut along.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from within.core import Budget, prune, trace
from within.core.errors import WithinError
from within.core.pruning import PruneResult
from within.perception3d.ada3d.thinning import Ada3D
from within.perception3d.export import map_shape
from within.perception3d.models.bev_backbone import BevBackbone, BevBlock
from within.perception3d.models.bev_map import BevMap
from within.perception3d.named_detector import Network, detector_of

STEP = 8


@dataclass(frozen=True, eq=False)
class PrunedBev:
    """A network with a smaller 2-D backbone.

    Attributes:
        network: it.
        blocks: of its 2-D backbone.
        removed: numbers of the convolutions that are gone, as the network before counted them.
        result: of the core's `prune`.
    """

    network: Network
    blocks: tuple[BevBlock, ...]
    removed: tuple[int, ...]
    result: PruneResult | None


class DensePart(nn.Module):
    """2-D backbone, head and what the importance predictor reads of maps: all that a cut of widths touches."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        detector = detector_of(network)
        self.bev, self.head = detector.bev, detector.head
        self.embeddings = network.predictor.map_embeddings if isinstance(network, Ada3D) else nn.ModuleDict()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the head's maps and the embeddings."""
        found: list[Tensor] = []

        def before(number: int, image: BevMap) -> BevMap:
            if str(number) in self.embeddings:
                found.append(self.embeddings[str(number)](image))
            return image

        tasks = self.head(self.bev(x, before))
        return (*(each for task in tasks for each in task.values()), *found)


def prune_widths(
    network: Network,
    *,
    budgets: Sequence[Budget] = (),
    widths: float | Mapping[str, int | float] | None = None,
    importance: str = "filter_l1",
    step: int = STEP,
) -> PrunedBev:
    """Returns a network whose 2-D backbone is narrower; the one given stays as it is.

    Arguments:
        network: a detector, or an `Ada3D`.
        budgets: of the dense part, all hard; or
        widths: a fraction of all widths, or by group; see `within.core.prune`.
        importance: of channels.
        step: widths are multiples of it.

    Raises:
        InfeasibleBudget: when the budgets cannot be met.
        WithinError: as `prune` does.
    """
    detector = detector_of(network)
    image = torch.zeros(1, *map_shape(detector))
    result = prune(
        DensePart(network).eval(), (image,), budgets=budgets, widths=widths, importance=importance, step=step,
        protect=["head", "embeddings"],
    )  # fmt: skip
    smaller = result.model
    if not isinstance(smaller, DensePart):
        raise WithinError("The cut network is no longer made of the same modules", where=type(smaller).__name__)
    blocks = _blocks(smaller.bev, detector.bev)
    return PrunedBev(_put_together(network, smaller), blocks, (), result)


def remove_convolutions(network: Network, numbers: Sequence[int]) -> PrunedBev:
    """Returns a network without some convolutions of its 2-D backbone; the one given stays as it is.

    Raises:
        WithinError: when a convolution changes channels or the size, or importance is predicted before it.
    """
    found = copy.deepcopy(network)
    detector = detector_of(found)
    number, blocks = 0, []
    for layers in detector.bev.blocks:
        kept = []
        for layer in layers:  # type: ignore[attr-defined]
            convolution = layer.convolution
            if number not in numbers:
                kept.append(layer)
            elif convolution.in_channels != convolution.out_channels or convolution.stride != (1, 1):
                raise WithinError(f"Convolution {number} changes channels or size and cannot go")
            number += 1
        blocks.append(nn.ModuleList(kept))
    if isinstance(found, Ada3D) and set(numbers) & set(found.places[1]):
        raise WithinError("Importance is predicted before a convolution that is to go", todo="remove others")
    for at, layers in enumerate(blocks):
        detector.bev.blocks[at] = layers
    if isinstance(found, Ada3D):
        _renumber(found, numbers)
    return PrunedBev(found, _blocks(detector.bev, detector.bev), tuple(numbers), None)


def removable(network: Network) -> list[int]:
    """Returns the convolutions that may go."""
    found, number = [], 0
    asked = network.places[1] if isinstance(network, Ada3D) else ()
    for layers in detector_of(network).bev.blocks:
        for layer in layers:  # type: ignore[attr-defined]
            convolution = layer.convolution
            same = convolution.in_channels == convolution.out_channels and convolution.stride == (1, 1)
            if same and number not in asked:
                found.append(number)
            number += 1
    return found


def prune_widths_and_layers(
    network: Network,
    loss: Callable[[Network], float],
    budgets: Sequence[Budget],
    *,
    most_removed: int = 2,
    **options: Any,
) -> PrunedBev:
    """Returns the network of least loss among those with none, one, ... convolutions gone and widths cut to budgets.

    Arguments:
        network: a detector, or an `Ada3D`.
        loss: of a network, on labelled scenes.
        budgets: of the dense part, all hard; relative ones refer to the network given.
        most_removed: convolutions that may go.
        options: of `prune_widths`.

    Raises:
        InfeasibleBudget: when the budgets cannot be met.
    """
    image = torch.zeros(1, *map_shape(detector_of(network)))
    limits = [_absolute(budget, DensePart(network).eval(), image) for budget in budgets]
    gone: list[int] = []
    best: tuple[float, PrunedBev] | None = None
    for count in range(most_removed + 1):
        if count:
            choices = [number for number in removable(network) if number not in gone]
            if not choices:
                break
            losses = [loss(remove_convolutions(network, [*gone, number]).network) for number in choices]
            gone.append(choices[losses.index(min(losses))])
        shallow = remove_convolutions(network, sorted(gone)).network
        found = prune_widths(shallow, budgets=limits, **options)
        value = loss(found.network)
        if best is None or value < best[0]:
            best = value, replace(found, removed=tuple(sorted(gone)))
    assert best is not None
    return best[1]


def _absolute(budget: Budget, model: nn.Module, image: Tensor) -> Budget:
    return Budget(budget.cost, limit=budget.resolve(trace(model, (image,))))


def _put_together(network: Network, smaller: DensePart) -> Network:
    found = copy.deepcopy(network)
    detector = detector_of(found)
    detector.bev, detector.head = smaller.bev, smaller.head
    if isinstance(found, Ada3D):
        found.predictor.map_embeddings = smaller.embeddings
    return found.train(network.training)


def _blocks(bev: BevBackbone, before: BevBackbone) -> tuple[BevBlock, ...]:
    """Returns the description of a 2-D backbone, read off its modules."""
    found = []
    for layers, upsample in zip(bev.blocks, bev.upsamples, strict=True):
        convolutions = [layer.convolution for layer in layers]  # type: ignore[attr-defined]
        resize: Any = upsample.convolution
        factor = float(resize.stride[0]) if isinstance(resize, nn.ConvTranspose2d) else 1 / resize.stride[0]
        width = resize.weight.shape[1] if isinstance(resize, nn.ConvTranspose2d) else resize.weight.shape[0]
        found.append(
            BevBlock(
                len(convolutions) - 1,
                tuple(int(each.weight.shape[0]) for each in convolutions),
                convolutions[0].stride[0],
                factor if factor < 1 else round(factor),
                int(width),
            )
        )
    return tuple(found)


def _renumber(network: Ada3D, gone: Sequence[int]) -> None:
    """Counts places before convolutions anew."""

    def moved(number: int) -> int:
        return number - sum(each < number for each in gone)

    network.places = network.places[0], tuple(moved(number) for number in network.places[1])
    network.rates = replace(network.rates, pixels={moved(int(at)): keep for at, keep in network.rates.pixels.items()})
    old = network.predictor.map_embeddings
    network.predictor.map_embeddings = nn.ModuleDict({str(moved(int(at))): layer for at, layer in old.items()})
