"""Compare a candidate with its reference on given inputs: an exported file with the module it came from, say.

The figures are over all outputs and inputs: max |c - r|; the same divided by max |r| of that output, so that a value
near zero cannot inflate it; and the share of positions where the largest entry along axis 1 is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.device.inference import evaluating
from within.core.device.runtimes import as_tuple, runtime
from within.core.errors import WithinError


@dataclass(frozen=True)
class Verification:
    """How far a candidate is from its reference.

    Attributes:
        max_absolute: largest absolute difference.
        max_relative: largest absolute difference over the largest magnitude of the reference output it occurs in.
        argmax_agreement: share of positions with the same argmax along axis 1; 1 where an output has one channel.
        shapes: shapes of the inputs that were compared.
        tolerance: bound on `max_relative`.
    """

    max_absolute: float
    max_relative: float
    argmax_agreement: float
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the largest relative difference is within the tolerance (a NaN never is)."""
        return self.max_relative <= self.tolerance


def verify(
    reference: nn.Module | Callable[..., Any],
    candidate: nn.Module | Callable[..., Any] | str | Path,
    inputs_list: Sequence[Sequence[Tensor]],
    *,
    tolerance: float = 1e-4,
    raises: bool = True,
) -> Verification:
    """Runs both on every input and compares.

    Arguments:
        reference: a module (run in eval mode, restored afterwards) or a function of tensors.
        candidate: the same, or the path of an ONNX file (run in ONNX Runtime).
        inputs_list: one sequence of tensors a run.
        tolerance: bound on the relative difference.
        raises: raise when it does not hold; otherwise only the result says so.

    Raises:
        WithinError: when the tolerance is exceeded, or number or shapes of the outputs differ.
    """
    if not inputs_list:
        raise WithinError("There is nothing to verify on", todo="pass at least one input")
    if isinstance(candidate, (str, Path)):
        session = runtime("onnxruntime").load(candidate)
        run: Callable[..., Any] = lambda *inputs: session.run(inputs)  # noqa: E731
        where = str(candidate)
    else:
        run, where = candidate, getattr(candidate, "__name__", type(candidate).__name__)
    absolute = relative = 0.0
    agreed = positions = 0
    for inputs in inputs_list:
        with evaluating(reference):
            expected = as_tuple(reference(*inputs))
        with evaluating(candidate):
            obtained = as_tuple(run(*inputs))
        _check_shapes(expected, obtained, inputs, where)
        for one, other in zip(expected, obtained):
            difference = _largest((one.double() - other.double()).abs())
            scale = _largest(one.double().abs())
            absolute = _worse(absolute, difference)
            relative = _worse(relative, difference / scale if scale else difference)
            if one.ndim > 1 and one.shape[1] > 1:
                same = one.argmax(1) == other.argmax(1)
                agreed, positions = agreed + int(same.sum()), positions + same.numel()
    result = Verification(
        absolute,
        relative,
        agreed / positions if positions else 1.0,
        tuple(tuple(tuple(value.shape) for value in inputs) for inputs in inputs_list),
        tolerance,
    )
    if raises and not result.passed:
        raise WithinError(
            f"The candidate differs from its reference: {relative:.3g} of the largest output, {tolerance:g} is allowed",
            where=f"{where}, inputs {_shapes(inputs_list)}",
            todo="check that the model is deterministic and free of NaN, or pass a larger tolerance",
        )
    return result


def _check_shapes(expected: Sequence[Tensor], obtained: Sequence[Tensor], inputs: Sequence[Tensor], where: str) -> None:
    shapes = [[tuple(value.shape) for value in outputs] for outputs in (expected, obtained)]
    if shapes[0] != shapes[1]:
        raise WithinError(
            f"The outputs have other shapes than the reference: {shapes[1]} instead of {shapes[0]}",
            where=f"{where}, input {_shapes([inputs])}",
        )


def _shapes(inputs_list: Sequence[Sequence[Tensor]]) -> str:
    return ", ".join("x".join(map(str, value.shape)) for inputs in inputs_list for value in inputs)


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _worse(one: float, other: float) -> float:
    return float(torch.tensor([one, other], dtype=torch.float64).max())  # unlike max(), keeps a NaN
