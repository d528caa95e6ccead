"""Export a restoration network: ONNX that was run against the network at two sizes, safetensors and JSON.

Three files of one name: `NAME.onnx`, with batch, height and width left open (multiples of what the network needs);
`NAME.safetensors` and `NAME.json`, from which `load_exported` rebuilds the network. The JSON is the plan of the
compression, empty for a dense network, and names the network, its arguments and what was verified.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.checkpoint import load_into, load_state, save_weights
from within.core.cli.configuration import check_keys
from within.core.device import OnnxModel, export_onnx
from within.core.errors import WithinError
from within.core.named_network import recorded_network, with_attributes
from within.core.plan import input_specs
from within.core.pruning import Plan, apply, read_plan
from within.lowlevel.named_network import ATTRIBUTES, RestorationNetwork, builder, open_network

KEYS = ("network", "weights", "arguments", "output", "size", "sigma", "opset", "dynamic")
SIDE = 64


@dataclass(frozen=True)
class Exported:
    """The files of an export.

    Attributes:
        onnx: the ONNX file with what was verified.
        weights, description: the other two files.
        network: what was exported.
    """

    onnx: OnnxModel
    weights: Path
    description: Path
    network: str

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        record = asdict(self.onnx) | {"path": str(self.onnx.path)}
        return {
            "network": self.network,
            "onnx": record,
            "weights": str(self.weights),
            "description": str(self.description),
        }


def main(config: Mapping[str, Any]) -> Exported:
    """Exports as a configuration says; this is `within lowlevel export`.

    Arguments:
        config: `network` (see `named_network`) and `output` (the ONNX file); and where needed `weights` (a file or a
            run directory), `arguments` (of the dense network), `size` (height and width to trace at), `sigma` (of a
            network that is told the noise level: it is fixed in the file), `opset`, `dynamic` (False fixes all sizes).

    Raises:
        WithinError: when a key is unknown or missing, and as `open_network` and `export_onnx` do.
    """
    given = dict(config)
    check_keys(given, KEYS, "export")
    if given.get("output") is None:
        raise WithinError("Nothing says where the ONNX file goes", todo="give output")
    named = open_network(given.get("network"), weights=given.get("weights"), arguments=given.get("arguments"))
    options = {key: given[key] for key in ("size", "sigma", "opset", "dynamic") if given.get(key) is not None}
    return export(named, given["output"], **options)


def export(
    named: RestorationNetwork,
    output: str | Path,
    *,
    size: tuple[int, int] | None = None,
    sigma: float | None = None,
    opset: int = 20,
    dynamic: bool = True,
) -> Exported:
    """Writes the three files; arguments as for `main`.

    Raises:
        WithinError: when the size is no multiple of what the network needs, and as `export_onnx` does.
    """
    path = Path(output)
    if path.suffix != ".onnx":
        raise WithinError(f"The file {path.name!r} must end in .onnx", where=str(path))
    multiple = named.size_multiple
    height, width = size or (_side(multiple), _side(multiple) + multiple)
    if height % multiple or width % multiple:
        raise WithinError(
            f"{named.name} takes sizes that are multiples of {multiple}, not {height} x {width}",
            todo=f"export at {height + -height % multiple} x {width + -width % multiple}; other multiples work too",
        )
    image = torch.rand(1, named.channels, height, width, generator=torch.Generator().manual_seed(0))
    others = named.other_inputs(sigma)
    model = named.at_level(named.model, sigma)
    onnx = export_onnx(
        model, (image,), path, dynamic=dynamic, opset=opset, input_names=["image"], output_names=["restored"]
    )
    weights, description = path.with_suffix(".safetensors"), path.with_suffix(".json")
    save_weights(named.model, weights)
    _plan(named, (image, *others), onnx, sigma).write(description)
    return Exported(onnx, weights, description, named.name)


def load_exported(description: str | Path) -> nn.Module:
    """Rebuilds an exported network from `NAME.json` and the `NAME.safetensors` beside it.

    Raises:
        WithinError: when a file is missing or damaged, or the two do not belong together.
    """
    path = Path(description)
    plan = read_plan(path)
    dense = builder(*recorded_network(plan, where=str(path)))
    model = apply(plan, dense())
    weights = path.with_suffix(".safetensors")
    load_into(model, load_state(weights), where=str(weights))
    return with_attributes(model, dense, ATTRIBUTES)


def _plan(named: RestorationNetwork, inputs: tuple[Tensor, ...], onnx: OnnxModel, sigma: float | None) -> Plan:
    known = {
        "network": named.name,
        "arguments": dict(named.arguments),
        "channels": named.channels,
        "scale": named.scale,
        "size_multiple": named.size_multiple,
        "parameters": sum(math.prod(value.shape) for value in named.model.parameters()),
        "onnx": asdict(onnx) | {"path": onnx.path.name, "sigma": sigma},
    }
    if named.plan is None:
        return Plan(type(named.model).__name__, input_specs(inputs), provenance=known)
    return Plan(named.plan.model, named.plan.inputs, named.plan.steps, dict(named.plan.provenance) | known)


def _side(multiple: int) -> int:
    return SIDE + -SIDE % multiple
