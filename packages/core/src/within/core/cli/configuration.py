"""Configuration files: mmengine `Config` in Python, with errors that name the file."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from within.core.errors import WithinError

if TYPE_CHECKING:
    from mmengine.config import Config

Settings = TypeVar("Settings")


def load_config(path: Path) -> Config:
    """Reads a mmengine configuration in Python.

    Raises:
        WithinError: when the file is missing or does not run, with its error.
    """
    from mmengine.config import Config

    if not path.is_file():
        raise WithinError("There is no such configuration", where=str(path))
    try:
        return Config.fromfile(path)
    except Exception as error:  # it is a Python file: anything can go wrong in it
        raise WithinError(
            f"The configuration does not load ({type(error).__name__}: {error})", where=str(path)
        ) from error


def read_config(
    config: str | Path | Config | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> tuple[Config, str]:
    """Returns a configuration and what errors call it.

    Arguments:
        config: a file, or the settings themselves; not modified.
        overrides: settings that replace those, dotted where nested: `{"schedule.epochs": 2}`.

    Raises:
        WithinError: as `load_config` does.
    """
    from mmengine.config import Config

    if isinstance(config, (str, Path)):
        read = load_config(Path(config))
    elif isinstance(config, Config):
        read = Config(config.to_dict(), filename=config.filename)
    else:
        read = Config(dict(config))
    read.merge_from_dict(dict(overrides or {}))
    return read, str(read.filename or "configuration")


def read_dataclass(kind: type[Settings], given: Mapping[str, Any], where: str) -> Settings:
    """Returns a frozen dataclass made of a mapping; private names (with an underscore) are left alone.

    Arguments:
        kind: the dataclass; attributes that are dataclasses of their own may be given as mappings.
        given: names and values; lists become tuples.
        where: what errors call the mapping.

    Raises:
        WithinError: naming a key that is unknown or missing.
    """
    values = {name: value for name, value in given.items() if not name.startswith("_")}
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    check_keys(values, [field.name for field in fields], where)
    for field in fields:
        if (
            field.name not in values
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ):
            raise WithinError(f"The setting {field.name!r} is missing", where=where, todo=f"give {field.name}")
    hints = get_type_hints(kind)
    for name, value in values.items():
        part = _dataclass_among(hints[name])
        if part is not None and isinstance(value, Mapping):
            values[name] = read_dataclass(part, value, f"{where}: {name}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _dataclass_among(hint: Any) -> type[Any] | None:
    """Returns the dataclass that a type is or may be, as in `Schedule | None`."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return next((each for each in options if isinstance(each, type) and dataclasses.is_dataclass(each)), None)


def check_keys(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Checks that every key is known.

    Raises:
        WithinError: naming the first that is not, and the nearest one that is.
    """
    known = list(known)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise WithinError(
                f"There is no setting {name!r}",
                where=where,
                todo=f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(known)}",
            )
