"""LMDB in the layout of BasicSR: `data.mdb`, `lock.mdb` and `meta_info.txt` in a folder whose name ends in `.lmdb`.

The key of an image is its name without the suffix; the value is the image encoded as PNG; `meta_info.txt` lists
`key.png (height,width,channels) compression_level`.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
from collections import Counter
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image

from within.core.errors import WithinError, missing_extra
from within.core.progress import track
from within.lowlevel.data import deep_rgb
from within.lowlevel.data.images import ImageArray, image_size, read_image
from within.lowlevel.data.meta_info import ImageEntry, read_meta_info, write_meta_info
from within.lowlevel.data.sources import ImageSource, Size

_OPEN: WeakValueDictionary[tuple[int, int], Any] = WeakValueDictionary()


class LmdbImages:
    """The images of an LMDB folder; a source like `sources.FolderImages`.

    Arguments:
        folder: the folder, named `*.lmdb`.

    Raises:
        WithinError: when the `lmdb` extra is not installed, the folder is no such database, `meta_info.txt` is missing
            or cannot be understood, the database lacks a key that it lists, or a value is no image.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.origin = str(folder)
        self._environment: Any = None
        if not (self.folder / "data.mdb").is_file():
            raise WithinError("The folder is not an LMDB (it has no data.mdb)", where=self.origin)
        keys = [_key(entry.name) for entry in read_meta_info(self.folder / "meta_info.txt")]
        self.sizes: dict[str, Size] = {}
        missing = []
        with self._open().begin(buffers=True) as transaction:
            for key in track(keys, f"looking at {self.folder.name}"):
                value = transaction.get(key.encode())
                if value is None:
                    missing.append(key)
                else:
                    self.sizes[key] = _size(value, f"{self.origin}, key {key}")
        if missing:
            raise WithinError(
                f"The LMDB lacks {len(missing)} of the {len(keys)} keys in its meta_info.txt: {_some(missing)}",
                where=self.origin,
                todo="make the LMDB again from its images",
            )

    def read(self, name: str) -> ImageArray:
        """Returns the image of a key.

        Raises:
            WithinError: when there is no such key, or the value is damaged.
        """
        with self._open().begin() as transaction:
            value = transaction.get(name.encode())
        if value is None:
            raise WithinError(f"The LMDB has no key {name!r}", where=self.origin)
        return read_image(bytes(value), name=f"{self.origin}, key {name}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None}  # a process that is not forked opens its own

    def _open(self) -> Any:
        if self._environment is None:
            self._environment = _environment(self.folder)
        return self._environment


def write_lmdb(folder: str | Path, source: ImageSource, *, compression_level: int = 1) -> None:
    """Writes the images of a source as an LMDB; the folder appears whole or not at all.

    Arguments:
        folder: the new folder; its name ends in `.lmdb`.
        source: the images; their names without suffix become the keys.
        compression_level: of the PNG encoder, 0 to 9.

    Raises:
        WithinError: when the folder exists or has another suffix, two names give one key, a name cannot be a key, or
            the disk is full.
    """
    target = Path(folder)
    if target.suffix != ".lmdb":
        raise WithinError("The folder of an LMDB ends in .lmdb", where=str(target))
    if target.exists():
        raise WithinError("The LMDB exists", where=str(target), todo="choose another path, or remove it yourself")
    lmdb = _lmdb()
    keys = _keys(source)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    raw_bytes = sum(height * width * 3 * 2 for height, width in source.sizes.values())
    entries = []
    try:
        part.mkdir(parents=True)
        with lmdb.open(str(part), map_size=2 * raw_bytes + (1 << 14) * len(keys) + (1 << 20)) as environment:
            for name, key in track(list(keys.items()), f"writing {target.name}"):
                image = source.read(name)
                with environment.begin(write=True) as transaction:
                    transaction.put(key.encode(), _encode_png(image, compression_level))
                height, width, channels = image.shape
                entries.append(ImageEntry(f"{key}.png", (height, width, channels), compression_level=compression_level))
        write_meta_info(part / "meta_info.txt", entries)
        os.replace(part, target)
    except (lmdb.Error, OSError) as error:
        raise WithinError(f"Could not write the LMDB: {error}", where=str(target), todo="free disk space") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _environment(folder: Path) -> Any:
    """Opens a database for reading, or returns the one that is open: LMDB allows one a file and process.

    Read only and without locks, an environment is nothing but a memory map, which forked workers may inherit.
    """
    lmdb = _lmdb()
    try:
        status = (folder / "data.mdb").stat()
        file = (status.st_dev, status.st_ino)
        environment = _OPEN.get(file)
        if environment is None:
            environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
            _OPEN[file] = environment
        return environment
    except (lmdb.Error, OSError) as error:
        raise WithinError(f"The LMDB cannot be opened ({error})", where=str(folder)) from error


def _encode_png(image: ImageArray, compression_level: int) -> bytes:
    if image.dtype == np.uint16 and image.shape[2] == 3:
        return deep_rgb.encode(image, "PNG")
    stream = io.BytesIO()
    squeezed = image[:, :, 0] if image.shape[2] == 1 else image
    Image.fromarray(np.ascontiguousarray(squeezed)).save(stream, "PNG", compress_level=compression_level)
    return stream.getvalue()


def _keys(source: ImageSource) -> dict[str, str]:
    keys = {name: Path(name).with_suffix("").as_posix() for name in source.sizes}
    for name, key in keys.items():
        if not key.isascii() or any(letter in key for letter in ". ,"):
            raise WithinError(
                f"The name {name!r} cannot be a key (ASCII without spaces, commas and inner dots)", where=source.origin
            )
    key, uses = Counter(keys.values()).most_common(1)[0]
    if uses > 1:
        raise WithinError(f"{uses} images would have the key {key!r}", where=source.origin)
    return keys


def _size(value: memoryview, name: str) -> Size:
    # The shapes in meta_info.txt are not relied on: no other program reads them, and published files have wrong ones.
    if bytes(value[12:16]) == b"IHDR":
        width, height = struct.unpack(">II", value[16:24])
        return height, width
    return image_size(bytes(value), name=name)


def _key(name: str) -> str:
    return name.split(".")[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _lmdb() -> Any:
    try:
        import lmdb
    except Exception as error:
        raise missing_extra("within-lowlevel", "lmdb", error) from error
    return lmdb
