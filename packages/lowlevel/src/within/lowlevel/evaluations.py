"""Evaluation of whatever a user has: a configuration, an option file of BasicSR, a run directory, a network by name.

`eval` measures a network; this finds the network, the data and the protocol that the user means.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from within.core.cli.configuration import check_keys, load_config
from within.core.errors import WithinError
from within.lowlevel import eval as evaluation
from within.lowlevel.basicsr_training import _NETWORKS, _network
from within.lowlevel.eval import PSNR, SSIM, EvaluationResult, evaluate
from within.lowlevel.named_network import BASICSR, RestorationNetwork, open_network
from within.lowlevel.options import Options, open_dataset, read_options
from within.lowlevel.protocols import find_protocol, usual_protocol

KEYS = (
    "network", "weights", "data", "protocol", "data_lq", "filename_template", "sigma", "overrides", "skip_bad",
    "self_ensemble", "save_folder", "device",
)  # fmt: skip


def evaluate_file(path: str | Path) -> dict[str, EvaluationResult]:
    """Evaluates as a file says: a configuration in Python (keys as for `evaluate_settings`) or an option file (.yml).

    Returns:
        the results by data set.

    Raises:
        WithinError: when the file is wrong, and as `evaluate` does.
    """
    if Path(path).suffix in (".yml", ".yaml"):
        return evaluate_options(read_options(path))
    config = load_config(Path(path)).to_dict()
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    return {Path(str(settings.get("data", ""))).name or "data": evaluate_settings(settings)}


def evaluate_settings(settings: Mapping[str, Any]) -> EvaluationResult:
    """Evaluates as `eval.main` does, and besides its networks also run directories and those of BasicSR.

    Arguments:
        settings: the keys of `eval.main`; `network` may be any name that `named_network` knows, `weights` may be a run
            directory, which then needs no `network`.

    Raises:
        WithinError: when a key is unknown or missing, and as `open_network` and `evaluate` do.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    check_keys(given, KEYS, "evaluation")
    if "data" not in given:
        raise WithinError("Nothing says which images to evaluate on", todo="give data, a folder of clean images")
    network, weights = given.get("network"), given.get("weights")
    if network is not None and weights is not None and Path(weights).is_file() and not network.startswith(BASICSR):
        return evaluation.main(given)
    named = open_network(network, weights=weights, arguments=given.get("overrides"))
    if weights is None and named.run is None:
        raise WithinError("The network has no weights", where=named.name, todo="give weights, or a run directory")
    if "protocol" in given:
        protocol = find_protocol(given["protocol"])
    else:
        protocol = usual_protocol(
            channels=named.channels,
            scale=named.scale,
            sigma=given.get("sigma"),
            paired="data_lq" in given,
            filename_template=given.get("filename_template", "{}"),
        )
    dataset = protocol.dataset(given["data"], given.get("data_lq"), skip_bad=given.get("skip_bad", False))
    options = {key: given[key] for key in ("self_ensemble", "save_folder", "device") if key in given}
    forward = None
    if named.told_the_level:
        others = named.other_inputs(given.get("sigma"), device=given.get("device", "cpu"))
        forward = lambda batch: named.model(batch, *others)  # noqa: E731
    return evaluate(named.model, dataset, protocol.metrics, forward=forward, **options)


def evaluate_options(options: Options) -> dict[str, EvaluationResult]:
    """Evaluates as an option file says, on each of its `val` and `test` data sets.

    Raises:
        WithinError: when it names no weights, no such data set, or an architecture that neither this project nor an
            installed BasicSR has.
    """
    datasets = {name: entry for name, entry in options.datasets.items() if entry.phase != "train"}
    if not datasets:
        raise WithinError("The option file has no data set to evaluate on", where=options.name, todo="add datasets.val")
    if options.path.pretrain_network_g is None:
        raise WithinError("The option file names no weights", where=options.name, todo="add path.pretrain_network_g")
    named = _network_of(options)
    metrics = tuple(options.val.metrics.values()) or (PSNR, SSIM)
    return {
        entry.name or name: evaluate(named.model, open_dataset(entry, options.scale), metrics)
        for name, entry in datasets.items()
    }


def _network_of(options: Options) -> RestorationNetwork:
    component = options.network_g
    if component.type in _NETWORKS:
        name, arguments = _network(component, options.scale)
    else:
        name, arguments = f"{BASICSR}{component.type}", dict(component.arguments)
    return open_network(name, weights=options.path.pretrain_network_g, arguments=arguments)
