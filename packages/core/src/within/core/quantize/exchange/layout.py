"""State dicts in which every quantiser is a module with a buffer `_amax`, as NVIDIA's two libraries have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.quantize.exchange.ranges import LayerRanges, RangedState

RANGE = "_amax"


@dataclass(frozen=True)
class Layout:
    """How a library names what it adds to a state dict.

    Attributes:
        library: for messages.
        input, weight: names of the two quantisers within a layer.
        unsupported: what ends the name of an entry that changes results and that a range cannot say, with what to do.
    """

    library: str
    input: str
    weight: str
    unsupported: Mapping[str, str]

    def read(self, state: Mapping[str, Tensor]) -> RangedState:
        """Splits a state dict into parameters and ranges.

        Raises:
            WithinError: when it holds no range at all, a range is negative, NaN or infinite, or there is an entry that
                changes results and is no range.
        """
        parameters: dict[str, Tensor] = {}
        layers: dict[str, dict[str, Tensor]] = {}
        tensors: dict[str, Tensor] = {}
        for key, value in state.items():
            path, _, leaf = key.rpartition(".")
            for ending, todo in self.unsupported.items():
                if key.endswith(ending) and "quantizer" in path:
                    raise WithinError(f"The quantiser of {self.library} has an entry {leaf!r}", where=key, todo=todo)
            if leaf != RANGE:
                parameters[key] = value
                continue
            if not bool((torch.isfinite(value) & (value >= 0)).all()):
                raise WithinError(
                    "A range is negative, NaN or infinite",
                    where=key,
                    todo="calibrate that quantiser again, or disable it",
                )
            layer, _, quantiser = path.rpartition(".")
            if quantiser in (self.input, self.weight):
                layers.setdefault(layer, {})[quantiser] = value
            else:
                tensors[path] = value
        if not layers and not tensors:
            raise WithinError(
                f"The state dict holds no range of {self.library}: no entry ends in {RANGE!r}",
                todo="calibrate the model before saving it, or load it as an ordinary state dict",
            )
        ranges = {name: LayerRanges(own.get(self.input), own.get(self.weight)) for name, own in layers.items()}
        return RangedState(parameters, ranges, tensors)

    def write(self, state: RangedState) -> dict[str, Tensor]:
        """Returns the state dict that `read` takes apart."""
        found = dict(state.parameters)
        for layer, ranges in state.layers.items():
            prefix = f"{layer}." if layer else ""
            for quantiser, amax in ((self.input, ranges.input), (self.weight, ranges.weight)):
                if amax is not None:
                    found[f"{prefix}{quantiser}.{RANGE}"] = amax
        for path, amax in state.tensors.items():
            found[f"{path}.{RANGE}" if path else RANGE] = amax
        return found

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Loads a state dict strictly into a model with that library's quantisers, which need not be calibrated.

        The libraries create the buffers of ranges during calibration only, and before that refuse to load them or need
        a GPU for it; here they are created first.

        Raises:
            WithinError: when the model has no quantiser of that name, or an entry is missing or too many.
        """
        for key, value in state.items():
            path, _, leaf = key.rpartition(".")
            if leaf != RANGE:
                continue
            try:
                quantiser = model.get_submodule(path)
            except AttributeError as error:
                raise WithinError(
                    f"The model has no quantiser {path!r}",
                    where=key,
                    todo=f"build it with the modules of {self.library} that the ranges belong to",
                ) from error
            present = getattr(quantiser, RANGE, None)
            if present is None or present.shape != value.shape:
                if hasattr(quantiser, RANGE):
                    delattr(quantiser, RANGE)
                quantiser.register_buffer(RANGE, torch.empty_like(value))
        try:
            model.load_state_dict(dict(state), strict=True)
        except RuntimeError as error:
            raise WithinError(
                f"The state dict does not fit the model: {' '.join(str(error).split())}",
                where=self.library,
                todo="build the model that it was saved from",
            ) from error
