"""Information files of the two public tool boxes, read without running what a pickle may ask for.

MMDetection3D (infos v2): {metainfo: {categories, dataset, info_version}, data_list: [frames]}; OpenPCDet: [frames].
Both are pickles, and a pickle can call any function. Only what these files hold is let through: plain containers,
numbers, text, and NumPy's arrays, scalars and types; anything else is an error that names it.
"""

from __future__ import annotations

import collections
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from within.core.errors import WithinError
from within.core.files import atomic_write

VERSION = "1.1"  # of infos v2


@dataclass(frozen=True, eq=False)
class InfoFile:
    """An infos v2 file.

    Attributes:
        dataset: "kitti", "nuscenes", ...
        categories: number of each class.
        frames: of `data_list`, as the file has them.
        metainfo: everything else that the file says of itself.
    """

    dataset: str
    categories: Mapping[str, int]
    frames: tuple[dict[str, Any], ...]
    metainfo: Mapping[str, Any]

    @property
    def names(self) -> dict[int, str]:
        """Class of each number."""
        return {number: name for name, number in self.categories.items()}


def read_info_file(path: str | Path) -> InfoFile:
    """Returns an infos v2 file.

    Raises:
        WithinError: when it cannot be read, holds what is not allowed, or is no infos v2 file.
    """
    content = load_restricted(path)
    if isinstance(content, list):
        raise WithinError(
            "This is a list of frames, as OpenPCDet and MMDetection3D before 1.1 write it, not infos v2",
            where=str(path),
            todo="read it with read_info_list, or convert it with openpcdet_to_v2",
        )
    if not isinstance(content, dict):
        raise WithinError(f"This is a {type(content).__name__}, not infos v2", where=str(path))
    for key, kind in (("metainfo", dict), ("data_list", list)):
        if not isinstance(content.get(key), kind):
            raise WithinError(f"The infos have no {key} of type {kind.__name__}", where=str(path))
    rest = dict(content["metainfo"])
    categories, dataset = rest.pop("categories", None), rest.pop("dataset", None)
    if not isinstance(categories, dict) or not all(isinstance(each, int | np.integer) for each in categories.values()):
        raise WithinError("The infos do not say which number each class has", where=f"{path}, metainfo, categories")
    frames = _frames(content["data_list"], f"{path}, data_list")
    return InfoFile(str(dataset), {str(name): int(number) for name, number in categories.items()}, frames, rest)


def read_info_list(path: str | Path) -> tuple[dict[str, Any], ...]:
    """Returns the frames of an OpenPCDet file.

    Raises:
        WithinError: when it cannot be read, holds what is not allowed, or is no list of dictionaries.
    """
    content = load_restricted(path)
    if not isinstance(content, list):
        raise WithinError(f"This is a {type(content).__name__}, not a list of frames", where=str(path))
    return _frames(content, str(path))


def write_info_file(path: str | Path, infos: InfoFile) -> None:
    """Writes an infos v2 file; whole or not at all. NumPy's scalars and arrays in it stay what they are.

    Raises:
        WithinError: when it cannot be written.
    """
    metainfo = {"categories": dict(infos.categories), "dataset": infos.dataset, "info_version": VERSION}
    content = {"metainfo": metainfo | dict(infos.metainfo), "data_list": list(infos.frames)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=4))


def write_info_list(path: str | Path, frames: Sequence[Mapping[str, Any]]) -> None:
    """Writes frames as OpenPCDet does; whole or not at all.

    Raises:
        WithinError: when it cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(pickle.dumps([dict(frame) for frame in frames], protocol=4))


def _frames(found: Sequence[Any], where: str) -> tuple[dict[str, Any], ...]:
    for number, frame in enumerate(found):
        if not isinstance(frame, dict):
            raise WithinError(f"A frame is a {type(frame).__name__}, not a dictionary", where=f"{where}[{number}]")
    return tuple(found)


def load_restricted(path: str | Path) -> Any:
    """Returns what a pickle holds, if that is only containers, numbers, text and NumPy's arrays, scalars and types.

    Raises:
        WithinError: when the file cannot be read, is no pickle, or names anything else; nothing of it has run then.
    """
    try:
        with open(path, "rb") as handle:
            return _Restricted(handle, str(path)).load()
    except OSError as error:
        raise WithinError(f"The file could not be read ({error.strerror})", where=str(path)) from error
    except WithinError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise WithinError(
            f"The file is no whole pickle ({type(error).__name__}: {error})",
            where=str(path),
            todo="copy or download it again",
        ) from error


def _encode(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, through which old protocols store bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes stored as {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for `bytes`, which protocols before 3 call for an empty one."""
    return b""


def _reconstruct(kind: type, shape: tuple[int, ...], code: Any) -> np.ndarray:
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"an array of the type {kind!r}")
    return np.ndarray.__new__(np.ndarray, shape, code)


def _scalar(kind: np.dtype, content: Any) -> Any:
    if not isinstance(kind, np.dtype) or kind.hasobject or not isinstance(content, bytes):
        raise pickle.UnpicklingError(f"a scalar of the type {kind!r}")
    return np.frombuffer(content, kind, 1)[0]


def _from_buffer(content: Any, kind: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(content, kind).reshape(shape, order=order)  # type: ignore[call-overload]


ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{
        (module, name): function
        for module in ("builtins", "__builtin__")  # in Python 3, and before
        for name, function in (("set", set), ("frozenset", frozenset), ("bytes", _no_bytes))
    },
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # before and since NumPy 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Restricted(pickle.Unpickler):
    def __init__(self, handle: Any, where: str) -> None:
        super().__init__(handle)
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise WithinError(
            f"The pickle asks for {module}.{name}, which such a file does not need",
            where=self.where,
            todo="do not open it with pickle.load: it may run anything; ask for the file as infos v2",
        )

    def persistent_load(self, identifier: Any) -> Any:
        raise WithinError(f"The pickle refers to something outside of it, {identifier!r}", where=self.where)
