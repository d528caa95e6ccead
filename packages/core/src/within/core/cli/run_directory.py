"""The run directory of a command: a configuration, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from within.core.cli.configuration import load_config
from within.core.cli.factory import build_model, example_inputs
from within.core.cli.settings import shape_texts
from within.core.errors import WithinError
from within.core.files import atomic_write, new_run_directory

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

CONFIG, MODEL = "config.py", "model.onnx"


@contextmanager
def open_run_directory(path: str | Path, config: Config, *, resume: bool = False, write: bool = True) -> Iterator[Path]:
    """Yields a new run directory that holds the configuration; a failure before anything else is in it leaves none.

    Arguments:
        path: of the directory.
        config: is written into it, as `config.py`.
        resume: continue in a directory that holds files.
        write: False in the further processes of a distributed training, which find the directory made.

    Raises:
        WithinError: when the directory exists and holds files, unless `resume`.
    """
    if not write:
        yield Path(path)
        return
    folder = new_run_directory(path, resume=resume)
    try:
        with atomic_write(folder / CONFIG) as temporary:
            temporary.write_text(config.pretty_text)
        yield folder
    except BaseException:
        if {each.name for each in folder.iterdir()} <= {CONFIG}:
            (folder / CONFIG).unlink(missing_ok=True)
            folder.rmdir()
        raise


def run_folder(name: str, *given: str | Path | None) -> Path:
    """Returns the first folder that was given, or `runs/NAME`."""
    return next((Path(folder) for folder in given if folder), Path("runs") / name)


def load_run(run: str | Path) -> tuple[nn.Module, tuple[Any, ...]]:
    """Rebuilds the compressed or quantised model of a run directory.

    Returns:
        The model, and example inputs.

    Raises:
        WithinError: when the directory lacks a file or its configuration names another model.
    """
    from within.core.checkpoint import load

    path = Path(run) / CONFIG
    config = load_config(path).to_dict()
    while "run" in config.get("model", {}):  # its model is that of an earlier run; the plan holds the steps of both
        path = Path(config["model"]["run"]) / CONFIG
        config = load_config(path).to_dict()
    model, inputs = dense_of(config, where=str(path))
    return load(run, lambda: build_model(model["factory"], model.get("arguments"))), inputs


def dense_of(config: Mapping[str, Any], *, where: str) -> tuple[Mapping[str, Any], tuple[Any, ...]]:
    """Returns what a configuration says of its model, and example inputs.

    Raises:
        WithinError: when it names no model or no inputs.
    """
    model = config.get("model")
    if not isinstance(model, Mapping) or "factory" not in model or not config.get("inputs"):
        raise WithinError(
            "The configuration names no model with inputs",
            where=where,
            todo='write model = dict(factory="module:name") and inputs = [(1, 3, 224, 224)]',
        )
    return model, example_inputs(shape_texts(config["inputs"]), config.get("seed", 0))
