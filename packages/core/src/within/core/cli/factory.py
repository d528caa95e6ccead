"""Models named on the command line: `package.module:factory`, its arguments, and the shapes of its inputs."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from within.core.errors import WithinError

if TYPE_CHECKING:
    import torch

FactoryName = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:FACTORY",
        help="Where to find the function or class that returns the model: package.module:name or file.py:name.",
        show_default=False,
    ),
]
FactoryArguments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="An argument of the factory; may be given several times."),
]
InputShapes = Annotated[
    list[str],
    typer.Option(
        "--input",
        "-i",
        metavar="SHAPE",
        help="Shape of an input, as in 1x3x224x224, or 1x77:int64 with a type; one for each input of the model.",
        show_default=False,
    ),
]


def find_factory(name: str) -> Callable[..., Any]:
    """Imports `package.module:factory` or `file.py:factory`; the current folder is searched first.

    Raises:
        WithinError: when there is no such module or no such name in it, with the nearest names.
    """
    place, separator, attribute = name.rpartition(":")
    if not separator or not place or not attribute:
        raise WithinError(
            f"{name!r} does not name a model", todo="write package.module:factory, as in torchvision.models:resnet18"
        )
    module = _import(place)
    factory: Any = module
    for part in attribute.split("."):
        if not hasattr(factory, part):
            near = difflib.get_close_matches(part, [entry for entry in dir(factory) if not entry.startswith("_")], n=3)
            raise WithinError(
                f"There is no {part!r} in {place}",
                where=str(getattr(module, "__file__", place)),
                todo=f"did you mean {' or '.join(near)}?" if near else "check the name after the colon",
            )
        factory = getattr(factory, part)
    if not callable(factory):
        raise WithinError(f"{name} is a {type(factory).__name__}, not something that builds a model")
    return factory


def build_model(name: str, arguments: Mapping[str, Any] | None = None) -> torch.nn.Module:
    """Builds a model from the name of its factory.

    Raises:
        WithinError: when the factory fails or returns something else than a module.
    """
    import torch

    factory = find_factory(name)
    try:
        model = factory(**(arguments or {}))
    except WithinError:
        raise
    except Exception as error:
        raise WithinError(
            f"The factory raised {type(error).__name__}: {error}",
            where=name,
            todo="check its arguments (--set name=value); --debug shows the traceback",
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise WithinError(f"The factory returned a {type(model).__name__}, not a torch.nn.Module", where=name)
    return model


def build_with_weights(record: Mapping[str, Any]) -> torch.nn.Module:
    """Builds a model from `dict(factory=NAME, arguments=..., weights=FILE)`; the last two may be missing.

    Raises:
        WithinError: when it cannot be built, or the weights are missing, damaged or of another model.
    """
    from within.core.checkpoint import load_into, load_tensors

    model = build_model(record["factory"], record.get("arguments"))
    if record.get("weights"):
        load_into(model, load_tensors(record["weights"]), where=str(record["weights"]))
    return model


def parse_arguments(texts: Sequence[str] | None, *, dotted: bool = False) -> dict[str, Any]:
    """Reads `name=value` pairs; a value that is a Python literal is taken as one, else as a string.

    Arguments:
        texts: the pairs.
        dotted: names of nested settings, `fine_tuning.iterations`, are valid too.

    Raises:
        WithinError: when a text has no `=` or no valid name.
    """
    arguments = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        parts = name.split(".") if dotted else [name]
        if not separator or not all(part.isidentifier() for part in parts):
            raise WithinError(f"{text!r} is not name=value", where="--set", todo="write for instance --set width=32")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def parse_shape(text: str) -> tuple[tuple[int, ...], str]:
    """Reads `1x3x224x224` or `1x77:int64`.

    Returns:
        The shape and the name of the element type, "float32" unless given.

    Raises:
        WithinError: when it is not a shape of positive sizes.
    """
    sizes, _, kind = text.partition(":")
    try:
        shape = tuple(int(size) for size in sizes.lower().replace("\N{MULTIPLICATION SIGN}", "x").split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise WithinError(f"{text!r} is not a shape", where="--input", todo="write for instance --input 1x3x224x224")
    return shape, kind or "float32"


def example_inputs(texts: Sequence[str], seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Returns inputs of the given shapes: standard normal for floating types, zeros for the others.

    Raises:
        WithinError: for a text that is no shape or names no element type of torch.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for text in texts:
        shape, kind = parse_shape(text)
        dtype = getattr(torch, kind, None)
        if not isinstance(dtype, torch.dtype):
            raise WithinError(
                f"torch has no element type {kind!r}", where=f"--input {text}", todo="try float32 or int64"
            )
        if dtype.is_floating_point:
            inputs.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            inputs.append(torch.zeros(shape, dtype=dtype))
    return tuple(inputs)


def _import(place: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if place.endswith(".py"):
            return _import_file(Path(place))
        return importlib.import_module(place)
    except WithinError:
        raise
    except Exception as error:  # whatever the user's module does while it is imported
        raise WithinError(
            f"The module could not be imported ({type(error).__name__}: {error})",
            where=place,
            todo="check the name before the colon, or run from the folder that holds it; --debug shows the traceback",
        ) from error


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise WithinError("There is no such file", where=str(path))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module
