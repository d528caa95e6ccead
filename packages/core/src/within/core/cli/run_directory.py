"""The run directory of a command: a configuration, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from within.core.cli.configuration import load_config
from within.core.cli.factory import build_model, example_inputs
from within.core.cli.settings import read_settings
from within.core.files import atomic_write, new_run_directory

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

CONFIG, MODEL = "config.py", "model.onnx"


@contextmanager
def run_directory(path: str | Path, config: Config, *, resume: bool = False) -> Iterator[Path]:
    """Yields a new run directory that holds the configuration; a failure before the model is saved leaves none behind.

    Raises:
        WithinError: when the directory exists and holds files, unless `resume`.
    """
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


def load_run(run: str | Path) -> tuple[nn.Module, tuple[Any, ...]]:
    """Rebuilds the compressed model of a run directory of `within compress`.

    Returns:
        The model, and example inputs.

    Raises:
        WithinError: when the directory lacks a file or its configuration names another model.
    """
    from within.core.checkpoint import load

    path = Path(run) / CONFIG
    settings = read_settings(load_config(path).to_dict(), where=str(path))
    factory, arguments = settings.model["factory"], settings.model.get("arguments")
    return load(run, lambda: build_model(factory, arguments)), example_inputs(settings.shapes, settings.seed)
