"""What one pass through a detector costs: multiply-accumulates and stored features, by part.

Definitions. A sparse convolution multiplies and accumulates pairs x channels in x channels out, where pairs are those
of the rulebook of that pass; a dense one height x width x kernel x channels in x channels out, as `within.core`'s
`Macs` counts it. FLOPs are twice that. Memory is the sum over layers of the features they put out, four bytes each:
places x channels where sparse, height x width x channels where dense. Norms and activations are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from within.core.device.inference import evaluating
from within.perception3d.ada3d.thinning import Ada3D
from within.perception3d.models.bev_layers import BevConvolution, BevUpsample
from within.perception3d.models.bev_map import BevMap, MaskedMap
from within.perception3d.models.detector import Detector
from within.perception3d.sparse import SparseTensor
from within.perception3d.sparse.layers import InverseConvolution, SparseConvolution, SubmanifoldConvolution

PARTS = ("3d", "2d", "head", "predictor")
BYTES = 4


@dataclass(frozen=True)
class PassCost:
    """Cost of a pass by part: "3d", "2d", "head" and "predictor".

    Attributes:
        macs: multiply-accumulates.
        memory: bytes of the features that the layers put out.
    """

    macs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    memory: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    @property
    def total_macs(self) -> float:
        """Of all parts."""
        return sum(self.macs.values())

    @property
    def total_memory(self) -> float:
        """Of all parts."""
        return sum(self.memory.values())

    def over(self, base: PassCost) -> dict[str, tuple[float, float]]:
        """Returns MACs and memory relative to another pass, of 3-D, 2-D, head and all."""
        found = {
            part: (_ratio(self.macs[part], base.macs[part]), _ratio(self.memory[part], base.memory[part]))
            for part in PARTS[:3]
        }
        found["total"] = self.total_macs / base.total_macs, self.total_memory / base.total_memory
        return found


def pass_cost(network: Detector | Ada3D, *inputs: Tensor) -> PassCost:
    """Returns what one pass costs; a mean over frames is that of their costs.

    Arguments:
        network: a detector, thinned out or not.
        inputs: as of `Detector`.
    """
    cost = PassCost()
    with _recorded(network, cost), evaluating(network), torch.no_grad():
        network(*inputs)
    return cost


def mean_cost(costs: list[PassCost]) -> PassCost:
    """Returns the mean of the costs of several passes."""
    mean = PassCost()
    for cost in costs:
        for part in PARTS:
            mean.macs[part] += cost.macs[part] / len(costs)
            mean.memory[part] += cost.memory[part] / len(costs)
    return mean


@contextmanager
def _recorded(network: Detector | Ada3D, cost: PassCost) -> Any:
    detector = network.detector if isinstance(network, Ada3D) else network
    parts: list[tuple[str, nn.Module]] = [("3d", detector.backbone), ("2d", detector.bev), ("head", detector.head)]
    if isinstance(network, Ada3D):
        parts.append(("predictor", network.predictor))
    handles = []
    for part, root in parts:
        for module in root.modules():
            if any(isinstance(module, kind) for kind in COUNTED):
                handles.append(module.register_forward_hook(_hook(part, cost)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(part: str, cost: PassCost) -> Callable[..., None]:
    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        cost.macs[part] += _macs(module, inputs[0], output)
        cost.memory[part] += BYTES * _numbers(output)

    return count


def _macs(module: nn.Module, x: BevMap, output: BevMap) -> float:
    if isinstance(module, nn.Linear):
        assert isinstance(x, Tensor)
        return x.shape[:-1].numel() * module.in_features * module.out_features
    weight: Tensor = module.weight  # type: ignore[assignment]
    if isinstance(x, SparseTensor) and isinstance(output, SparseTensor):
        if isinstance(module, BevUpsample) or tuple(weight.shape[2:]) == (1, 1):
            return len(x) * weight.numel()
        if isinstance(module, InverseConvolution):
            pairs = x.rulebooks["back", module.key].pairs
        else:
            pairs = module.rulebook(x).pairs  # type: ignore[operator]
        return pairs * (weight.numel() // _offsets(module, weight))
    pixels = x if isinstance(module, BevUpsample) else output
    features = pixels.features if isinstance(pixels, MaskedMap) else pixels
    assert isinstance(features, Tensor)
    return features.shape[0] * features.shape[2] * features.shape[3] * weight.numel()


def _offsets(module: nn.Module, weight: Tensor) -> int:
    extents = weight.shape[2:] if isinstance(module, nn.Conv2d) else weight.shape[1:-1]
    return extents.numel()


def _numbers(output: BevMap) -> int:
    if isinstance(output, Tensor):
        return output.numel()
    return output.features.numel()


def _ratio(one: float, other: float) -> float:
    return one / other if other else float(one == 0)


COUNTED = (
    SubmanifoldConvolution,
    SparseConvolution,
    InverseConvolution,
    BevConvolution,
    BevUpsample,
    nn.Conv2d,
    nn.Linear,
)
