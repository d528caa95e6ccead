"""A packing from its configuration to its file: build, prune, retrain, share, train the centroids, pack, compare."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.checkpoint import load_into, load_tensors
from within.core.cli.configuration import check_keys
from within.core.cli.factory import build_model, find_factory
from within.core.distill import KnowledgeDistillation
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.packing import PackResult, PackSettings, pack, unpack
from within.core.packing.pack import by_name, weight_names
from within.core.packing.weight_sharing import Initial
from within.core.pruning.statistics import input_moments
from within.core.sparse import magnitude_masks
from within.core.train.batches import as_source
from within.core.train.deep_compression import DeepCompressionSettings, deep_compression

MOST_WORK = 1e12  # rows times the cube of their length: what solving each row of a layer costs at most


@dataclass(frozen=True)
class PackingConfiguration:
    """The keys of a configuration of `within pack`.

    Attributes:
        model: `factory`, `weights` and if wanted `arguments`; `names` maps prefixes of the file's names to the model's.
        density, quality, bits, rounds, retraining, early_share, sharing, retraining_rate, sharing_rate, initial, seed:
            see `within.core.train.deep_compression.DeepCompressionSettings`.
        gap_bits, huffman: see `within.core.packing.PackSettings`.
        surgeon: prune by the optimal brain surgeon, with the inputs of so many items of the data; 0 prunes by
            magnitude, and so are layers that are too large for it.
        data: function by name that returns what `fit` trains on; without it nothing is trained.
        loss: function by name, `loss(output, target)`.
        batch_size: items a step.
        distillation: `temperature` and `weight`, to learn from the dense network as well.
        evaluate: function by name, from a model to `{metric: value}`.
        output: the file.
    """

    model: Mapping[str, Any]
    density: float | Mapping[str, float] | None = None
    quality: float | Mapping[str, float] | None = None
    bits: int | Mapping[str, int] | None = None
    gap_bits: int | Mapping[str, int] | None = None
    huffman: bool = True
    initial: Initial = "linear"
    rounds: int = 1
    retraining: int = 0
    early_share: float = 0.25
    sharing: int = 0
    retraining_rate: float = 1e-3
    sharing_rate: float = 1e-4
    surgeon: int = 0
    data: str | None = None
    loss: str = "torch.nn.functional:cross_entropy"
    batch_size: int = 256
    distillation: Mapping[str, float] | None = None
    evaluate: str | None = None
    output: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Packed:
    """A file, and what the network in it is worth.

    Attributes:
        result: the file and its account.
        before, after: metrics of the dense network and of the one read back from the file.
    """

    result: PackResult
    before: Mapping[str, float]
    after: Mapping[str, float]


def read_packing(config: Mapping[str, Any], *, where: str) -> PackingConfiguration:
    """Checks the keys of a configuration.

    Raises:
        WithinError: for an unknown or a missing key.
    """
    known = [each.name for each in dataclasses.fields(PackingConfiguration)]
    check_keys(config, known, where)
    model = config.get("model")
    if not isinstance(model, Mapping) or not {"factory", "weights"} <= set(model):
        todo = 'write model = dict(factory="module:name", weights="file.safetensors")'
        raise WithinError("The configuration names no model with weights", where=where, todo=todo)
    if any(config.get(key) for key in ("retraining", "sharing", "surgeon")) and not config.get("data"):
        raise WithinError("Training needs data", where=where, todo='write data = "module:function"')
    return PackingConfiguration(**config)


def run_packing(configuration: PackingConfiguration, output: Path, folder: Path | None = None) -> Packed:
    """Carries a configuration out.

    Arguments:
        configuration: what to do.
        output: the file.
        folder: is passed to the functions `data` and `evaluate`, before the model, where it is given.

    Raises:
        WithinError: for whatever is wrong with the configuration, the weights, the data or the file.
    """
    model = build_model(configuration.model["factory"], configuration.model.get("arguments"))
    state = renamed(load_tensors(configuration.model["weights"]), configuration.model.get("names", {}))
    load_into(model, state, where=str(configuration.model["weights"]))
    before = _metrics(configuration, model, folder)
    stages = {each.name: getattr(configuration, each.name) for each in dataclasses.fields(DeepCompressionSettings)}
    training = _training(configuration, model, folder)
    moments = partial(_moments, training, configuration.surgeon) if configuration.surgeon else None
    deep_compression(model, training, DeepCompressionSettings(**stages), moments=moments)
    packing = PackSettings(
        bits=configuration.bits,
        gap_bits=configuration.gap_bits,
        initial=configuration.initial,
        huffman=configuration.huffman,
        seed=configuration.seed,
    )
    result = pack(model, output, packing)
    load_into(model, unpack(output), where=str(output))
    return Packed(result, before, _metrics(configuration, model, folder))


def prune_state(
    state: Mapping[str, Tensor], *, density: float | None = None, quality: float | None = None
) -> dict[str, Tensor]:
    """Returns a state dict whose weights, each by itself, are pruned by magnitude; without retraining."""
    names = weight_names(state)
    weights = {name: state[name] for name in names}
    share = None if density is None else by_name(density, names, what="density")
    masks = magnitude_masks(weights, density=share, quality=quality)
    return {name: tensor.masked_fill(~masks[name], 0.0) if name in masks else tensor for name, tensor in state.items()}


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Returns the state under other names: each prefix in `names` is replaced."""
    found = {}
    for name, tensor in state.items():
        prefix = next((each for each in names if name.startswith(each)), "")
        found[names.get(prefix, "") + name.removeprefix(prefix)] = tensor
    return found


def _training(configuration: PackingConfiguration, model: nn.Module, folder: Path | None) -> dict[str, Any]:
    if configuration.data is None:
        return {}
    training: dict[str, Any] = {
        "data": find_factory(configuration.data)(*(() if folder is None else (folder,))),
        "loss": find_factory(configuration.loss),
        "batch_size": configuration.batch_size,
    }
    if configuration.distillation is not None:
        training["teacher"] = copy.deepcopy(model)
        training["distillation"] = KnowledgeDistillation(**configuration.distillation)
    return training


def _moments(training: Mapping[str, Any], count: int, model: nn.Module) -> dict[str, Tensor]:
    """Returns E[x x^T] of the inputs of every layer that the brain surgeon can take on."""
    source, batch_size, _ = as_source(training["data"], training["batch_size"], None)
    batches = [
        source.batch(indices, torch.Generator().manual_seed(number))[0]
        for number, indices in enumerate(torch.arange(min(count, len(source))).split(batch_size))
    ]
    whole = [batch for batch in batches if len(batch) == len(batches[0])]  # the trace is at the shape of one batch
    found = input_moments(trace(model, (whole[0],)), whole)
    shapes = {name: tensor.flatten(1).shape for name, tensor in model.named_parameters() if name in found}
    able = [name for name, (outputs, inputs) in shapes.items() if outputs * inputs**3 <= MOST_WORK]
    return {name: found[name].second_moment for name in able}


def _metrics(configuration: PackingConfiguration, model: nn.Module, folder: Path | None) -> dict[str, float]:
    if configuration.evaluate is None:
        return {}
    model.eval()
    with torch.no_grad():
        found = find_factory(configuration.evaluate)(*(() if folder is None else (folder,)), model)
    return dict(found)
