"""Post-training calibration: ranges of weights from the weights, ranges of activations from data.

Activations are observed while the model computes in floating point; a calibrator turns what it saw into a range (see
`quantize.calibrators`). An unsigned range begins at the smallest value seen, but never below the calibrated magnitude.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from within.core.device.inference import evaluating, positional
from within.core.errors import WithinError
from within.core.progress import track
from within.core.quantize.calibrators import calibrator as calibrator_named
from within.core.quantize.codebook import integer
from within.core.quantize.fake_quantize import FakeQuantize, LearnedStep, only
from within.core.quantize.grid import range_of
from within.core.quantize.insert import ACTIVATIONS, Quantized
from within.core.quantize.optimal_scale import optimal_scale

WeightRange = Literal["max", "optimal"]


def calibrate_weights(quantized: Quantized, method: WeightRange = "max") -> None:
    """Sets the scales of all weights.

    Arguments:
        quantized: from `insert_quantizers`.
        method: "max" covers every weight; "optimal" takes the scale of the least squared error (see `optimal_scale`).

    Raises:
        WithinError: when a weight holds NaN or infinity, or the method is unknown.
    """
    module = quantized.module
    for node in module.graph.nodes:
        if node.op == "call_module" and str(node.target) in quantized.weights:
            quantizer = module.get_submodule(str(node.target))
            assert isinstance(quantizer, FakeQuantize)
            weight = module.get_parameter(str(node.args[0].target)).detach()
            try:
                _set_weight_range(quantizer, weight, method)
            except WithinError as error:
                raise WithinError(error.what, where=str(node.args[0].target), todo=error.todo) from error


def _set_weight_range(quantizer: FakeQuantize, weight: Tensor, method: WeightRange) -> None:
    grid = quantizer.grid
    if method == "optimal":
        codes = integer(grid.bits, narrow=grid.narrow)
        scale, _ = optimal_scale(weight, codes, axis=grid.axis, group_size=grid.group_size)
        scale = torch.as_tensor(scale, dtype=torch.float32)
        quantizer.set_scale(torch.where(scale > 0, scale, torch.ones_like(scale)))
    elif method == "max":
        quantizer.set_range(*range_of(weight, grid))
    else:
        raise WithinError(f"There is no weight range named {method!r}", todo="choose max or optimal")
    if isinstance(quantizer, LearnedStep) and method == "max":
        quantizer.start(weight)


def calibrate_activations(
    quantized: Quantized,
    batches: Iterable[Any],
    *,
    calibrator: str = "max",
    options: Mapping[str, Any] | None = None,
) -> int:
    """Sets the ranges of all activations from data.

    Arguments:
        quantized: from `insert_quantizers`.
        batches: inputs, a tensor or a tuple of tensors each.
        calibrator: its name; see `quantize.calibrators`.
        options: of the calibrator.

    Returns:
        the number of batches seen.

    Raises:
        WithinError: when there are no batches, or one holds NaN or infinity, with the tensor where it appeared.
    """
    module = quantized.module
    observers = {path: _Observer(path, calibrator, options or {}) for path in quantized.activations}
    quantizers = {path: module.get_submodule(path) for path in observers}
    handles = [quantizers[path].register_forward_pre_hook(observers[path]) for path in observers]
    count = 0
    try:
        with evaluating(module), only(module, ()):
            for batch in track(batches, "calibrating"):
                _check_finite(batch, count)
                module(*positional(batch))
                count += 1
    finally:
        for handle in handles:
            handle.remove()
    if observers and not count:
        raise WithinError(
            "There are no calibration data",
            where="calibration",
            todo="pass some batches of real inputs: activations have no ranges without them",
        )
    for path, observer in observers.items():
        found = quantizers[path]
        assert isinstance(found, FakeQuantize)
        found.set_range(*observer.calibrator.range())
    return count


class _Observer:
    """Feeds the tensors that reach a quantiser to a calibrator."""

    def __init__(self, path: str, name: str, options: Mapping[str, Any]) -> None:
        self.calibrator = calibrator_named(name, name=path.removeprefix(f"{ACTIVATIONS}."), **options)

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[0].numel():
            self.calibrator.observe(inputs[0])


def _check_finite(batch: Any, number: int) -> None:
    for value in positional(batch):
        if not isinstance(value, Tensor):
            raise WithinError(
                f"Calibration batch {number} holds a {type(value).__name__}", todo="pass tensors or tuples of tensors"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WithinError(
                f"Calibration batch {number} holds NaN or infinite values", todo="leave that batch out or repair it"
            )
