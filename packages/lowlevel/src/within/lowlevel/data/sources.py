"""Where images come from: a folder or arrays in memory (and `lmdb.LmdbImages`), behind one small protocol.

A source knows the names and sizes of its images from headers alone, so that pairs and patch sizes are checked before
any work is done, and decodes an image when it is asked for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from within.core.errors import WithinError
from within.core.progress import track
from within.lowlevel.data.images import SUFFIXES, ImageArray, check_image, image_size, read_image

Size = tuple[int, int]


@runtime_checkable
class ImageSource(Protocol):
    """Named images."""

    @property
    def origin(self) -> str:
        """The folder or database, for errors."""
        ...

    @property
    def sizes(self) -> Mapping[str, Size]:
        """(height, width) of every image, by name, in a fixed order."""
        ...

    def read(self, name: str) -> ImageArray:
        """Returns the image (height, width, channels)."""
        ...


class FolderImages:
    """The images of a folder, or the named ones among them.

    Arguments:
        folder: the folder; hidden files and sub-folders are left alone.
        names: file names, relative to `folder`; by default all files of the folder, sorted.
        skip_bad: decode every file once and leave out those that cannot be read, with a warning that lists them,
            instead of failing at the first one.

    Attributes:
        skipped: the reason for each file left out, by name.

    Raises:
        WithinError: when the folder is missing or empty, a file is missing, or a file is no image.
    """

    def __init__(self, folder: str | Path, names: Iterable[str] | None = None, *, skip_bad: bool = False) -> None:
        self.folder = Path(folder)
        self.origin = str(folder)
        if not self.folder.is_dir():
            raise WithinError("The folder of images does not exist", where=self.origin)
        self.sizes: dict[str, Size] = {}
        self.skipped: dict[str, str] = {}
        for name in track(_names(self.folder) if names is None else list(names), f"looking at {self.folder.name}"):
            try:
                self.sizes[name] = self._inspect(name, decode=skip_bad)
            except WithinError as error:
                if not skip_bad:
                    raise
                self.skipped[name] = error.what
        if self.skipped:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.skipped.items())
            warnings.warn(f"{len(self.skipped)} files of {self.origin} were skipped: {reasons}", stacklevel=2)
        if not self.sizes:
            raise WithinError("The folder holds no images that can be read", where=self.origin)

    def read(self, name: str) -> ImageArray:
        """Returns the image.

        Raises:
            WithinError: when the file is truncated or damaged, with its path.
        """
        return read_image(self.folder / name)

    def _inspect(self, name: str, *, decode: bool) -> Size:
        path = self.folder / name
        if path.suffix.lower() not in SUFFIXES:
            raise WithinError(
                "The folder holds a file that is not an image",
                where=str(path),
                todo=f"move it away, or skip unreadable files; images end in {', '.join(SUFFIXES)}",
            )
        if not path.is_file():
            raise WithinError("The image file does not exist", where=str(path))
        if decode:
            image = read_image(path)
            return image.shape[0], image.shape[1]
        return image_size(path)


class ArrayImages:
    """Images that are already in memory.

    Arguments:
        arrays: images (height, width, 1 or 3), `uint8` or `uint16`, by name.

    Raises:
        WithinError: when there are none, or one is not an image.
    """

    def __init__(self, arrays: Mapping[str, ImageArray], origin: str = "memory") -> None:
        if not arrays:
            raise WithinError("There are no images", where=origin)
        for name, array in arrays.items():
            check_image(array, f"{origin}: {name}")
        self.origin = origin
        self.arrays = dict(arrays)
        self.sizes: dict[str, Size] = {name: (array.shape[0], array.shape[1]) for name, array in arrays.items()}

    def read(self, name: str) -> ImageArray:
        """Returns the image; the array is shared, not copied."""
        return self.arrays[name]


def load_all(source: ImageSource) -> ArrayImages:
    """Decodes every image of a source into memory, for data sets that fit there."""
    arrays = {name: source.read(name) for name in track(list(source.sizes), f"reading {Path(source.origin).name}")}
    return ArrayImages(arrays, source.origin)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
