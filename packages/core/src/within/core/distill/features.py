"""Feature distillation: layers inside the student imitate layers inside the teacher (Romero et al., "FitNets", 2015).

D = sum_l d(A_l(s_l), t_l), where A_l is a 1x1 convolution (a linear layer for tokens and vectors) wherever the pruned
student's layer has fewer channels than the teacher's, and the identity where it has as many. The A_l are trained with
the student and thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from within.core.errors import WithinError

_DISTANCES = {"l1": F.l1_loss, "mse": F.mse_loss}


class FeatureDistillation(nn.Module):
    """Mean distance between the features of named layers.

    Arguments:
        layers: qualified names of layers that student and teacher share, or a mapping from the student's to the
            teacher's names.
        distance: `l1` or `mse`.
        weight: factor of this term.
    """

    def __init__(
        self,
        layers: Sequence[str] | Mapping[str, str],
        *,
        distance: Literal["l1", "mse"] = "mse",
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if distance not in _DISTANCES:
            raise WithinError(f"Unknown distance {distance!r}", todo=f"choose one of: {', '.join(_DISTANCES)}")
        self.layers = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
        self.distance, self.weight, self.task_weight = distance, weight, 1.0
        self.adapters = nn.ModuleList()
        self._student_features: dict[str, list[Tensor]] = {}
        self._teacher_features: dict[str, list[Tensor]] = {}

    def prepare(self, student: nn.Module, teacher: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Runs both networks once on `inputs` and makes the adapters that the shapes ask for.

        Raises:
            WithinError: when a layer is missing, returns no tensor, or differs in anything but its channels.
        """
        modes = [(module, module.training) for network in (student, teacher) for module in network.modules()]
        with torch.no_grad(), self.watch(student, teacher):
            student.eval()(*inputs)
            teacher.eval()(*inputs)
        for module, mode in modes:
            module.training = mode
        self.adapters = nn.ModuleList(
            _adapter(self._student_features[ours][0], self._teacher_features[theirs][0], ours, theirs)
            for ours, theirs in self.layers.items()
        )
        self._student_features, self._teacher_features = {}, {}

    @contextmanager
    def watch(self, student: nn.Module, teacher: nn.Module) -> Iterator[None]:
        """Records the features of both networks while the context is open."""
        self._student_features, self._teacher_features = {}, {}
        handles = [_record(student, name, self._student_features, "student") for name in self.layers]
        handles += [_record(teacher, name, self._teacher_features, "teacher") for name in self.layers.values()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def forward(self, student_output: Any, teacher_output: Any) -> Tensor:
        """Returns the term for the features that the last watched run recorded; the outputs themselves are not used."""
        total = torch.zeros(())
        for adapter, (ours, theirs) in zip(self.adapters, self.layers.items(), strict=True):
            pairs = zip(self._student_features[ours], self._teacher_features[theirs], strict=True)
            for student, teacher in pairs:  # a module that is called several times has several features
                total = total.to(student.device) + _DISTANCES[self.distance](adapter(student), teacher)
        self._student_features, self._teacher_features = {}, {}  # let go of the activations
        return total


def _record(network: nn.Module, name: str, into: dict[str, list[Tensor]], who: str) -> Any:
    try:
        layer = network.get_submodule(name)
    except AttributeError as error:
        raise WithinError(f"The {who} has no layer {name!r}", where="feature distillation") from error

    def keep(module: nn.Module, arguments: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise WithinError(f"Layer {name!r} of the {who} does not return one tensor", where="feature distillation")
        into.setdefault(name, []).append(output)

    return layer.register_forward_hook(keep)


def _adapter(student: Tensor, teacher: Tensor, ours: str, theirs: str) -> nn.Module:
    channel_axis = 1 if student.ndim in (4, 5) else student.ndim - 1
    same_elsewhere = student.ndim == teacher.ndim and all(
        student.shape[axis] == teacher.shape[axis] for axis in range(student.ndim) if axis != channel_axis
    )
    if not same_elsewhere:
        raise WithinError(
            f"Student layer {ours!r} returns {tuple(student.shape)}, teacher layer {theirs!r} {tuple(teacher.shape)}",
            where="feature distillation",
            todo="pair layers that differ in nothing but their channels",
        )
    channels = student.shape[channel_axis], teacher.shape[channel_axis]
    if channels[0] == channels[1]:
        return nn.Identity()
    kinds: dict[int, Any] = {4: nn.Conv2d, 5: nn.Conv3d}
    layer = kinds[student.ndim](*channels, kernel_size=1) if student.ndim in kinds else nn.Linear(*channels)
    return layer.to(student.device)
