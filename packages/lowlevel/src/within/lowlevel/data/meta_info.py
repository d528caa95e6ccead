"""Meta-information files of BasicSR: one image a line, `name (height,width,channels) number`.

The shape and the number may be absent. In the file beside an LMDB the number is the PNG compression level (0 to 9);
beside a folder it may be the CRC-32 of the image file, as eight hexadecimal digits, which is then checked.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from within.core.errors import WithinError
from within.core.files import atomic_write

_LINE = re.compile(
    r"(?P<name>[^\s,]+)"
    r"(?:\s+\((?P<height>\d+),\s*(?P<width>\d+)(?:,\s*(?P<channels>\d+))?\))?"
    r"(?:\s+(?:(?P<crc>[0-9a-fA-F]{8})|(?P<level>\d)))?"
)


@dataclass(frozen=True)
class ImageEntry:
    """One line of a meta-information file.

    Attributes:
        name: file name with its suffix, relative to the folder of images.
        shape: (height, width, channels), or None when the line does not say.
        crc: CRC-32 of the image file, or None.
        compression_level: PNG compression level, or None.
    """

    name: str
    shape: tuple[int, int, int] | None = None
    crc: int | None = None
    compression_level: int | None = None

    def line(self) -> str:
        """Returns the line of the file, without its end."""
        shape = "" if self.shape is None else f" ({self.shape[0]},{self.shape[1]},{self.shape[2]})"
        crc = "" if self.crc is None else f" {self.crc:08x}"
        level = "" if self.compression_level is None else f" {self.compression_level}"
        return self.name + shape + crc + level


def read_meta_info(path: str | Path) -> tuple[ImageEntry, ...]:
    """Reads a meta-information file.

    Raises:
        WithinError: when it is missing, empty or not text, a line cannot be understood, or a name comes twice; with
            the number of the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise WithinError(f"Could not read the meta-info file: {error.strerror or error}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise WithinError("The meta-info file is not text", where=str(path)) from error
    entries: dict[str, ImageEntry] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = _parse(line.strip(), f"{path}, line {number}")
        if entry.name in entries:
            raise WithinError(f"The image {entry.name!r} is listed twice", where=f"{path}, line {number}")
        entries[entry.name] = entry
    if not entries:
        raise WithinError("The meta-info file lists no images", where=str(path))
    return tuple(entries.values())


def write_meta_info(path: str | Path, entries: Sequence[ImageEntry]) -> None:
    """Writes a meta-information file, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(entry.line() + "\n" for entry in entries), encoding="utf-8")


def check_crc(entry: ImageEntry, folder: str | Path) -> None:
    """Compares a file with the CRC-32 of its entry; entries without one pass.

    Raises:
        WithinError: when they differ.
    """
    if entry.crc is None:
        return
    path = Path(folder) / entry.name
    found = zlib.crc32(path.read_bytes())
    if found != entry.crc:
        raise WithinError(
            f"The file's CRC-32 is {found:08x}, the meta-info file says {entry.crc:08x}",
            where=str(path),
            todo="fetch the image again, or write the meta-info file anew",
        )


def _parse(line: str, where: str) -> ImageEntry:
    match = _LINE.fullmatch(line)
    if match is None:
        raise WithinError(
            f"The line {line!r} of the meta-info file cannot be understood",
            where=where,
            todo="write `name`, `name (height,width,channels)` or `name (height,width,channels) number`",
        )
    found = match.groupdict()
    shape = None
    if found["height"] is not None:
        shape = (int(found["height"]), int(found["width"]), int(found["channels"] or 1))
        if 0 in shape[:2] or shape[2] not in (1, 3, 4):
            raise WithinError(f"{shape} is not the shape of an image", where=where)
    crc = None if found["crc"] is None else int(found["crc"], 16)
    level = None if found["level"] is None else int(found["level"])
    return ImageEntry(found["name"], shape, crc, level)
