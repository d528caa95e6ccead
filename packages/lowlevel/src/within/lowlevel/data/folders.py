"""Data sets for torch: pairs of images from two sources, and clean images that are degraded on the fly.

An item is `{"lq": tensor, "gt": tensor, "name": str}` with `float32` tensors (channels, height, width) in [0, 1]. Both
also deliver whole batches `(lq, gt)` as `within.core.train.fit` takes them. Patches and their noise come from torch's
generator, or from the one that `batch` is given, so a seed decides them, in every worker of a DataLoader too; whole
images are always the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from within.core.errors import WithinError
from within.lowlevel.data.degradations import Degradation
from within.lowlevel.data.images import Color, convert_color, to_tensor
from within.lowlevel.data.lmdb import LmdbImages
from within.lowlevel.data.meta_info import ImageEntry, check_crc, read_meta_info
from within.lowlevel.data.patches import Patches
from within.lowlevel.data.resize import modcrop
from within.lowlevel.data.sources import FolderImages, ImageSource, Size

Item = dict[str, Any]


class _Images(Dataset[Item]):
    """Length, enlargement and randomness, which both data sets share."""

    def __init__(
        self, names: list[str], patches: Patches | None, color: Color | None, enlarge: int, seed: int = 0
    ) -> None:
        if enlarge < 1:
            raise WithinError(f"The enlargement of a data set is at least 1, not {enlarge}", where="enlarge")
        self.names = names
        self.patches = patches
        self.color = color
        self.enlarge = enlarge
        self.seed = seed

    def __len__(self) -> int:
        return len(self.names) * self.enlarge

    def __getitem__(self, index: int) -> Item:
        return self._item(index, None)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))

    def item_name(self, index: int) -> str:
        """Returns the name of the image behind an index."""
        return self.names[index % len(self.names)]

    def batch(
        self, indices: Int64[Tensor, " batch"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch channels gt_height gt_width"]]:
        """Returns (lq, gt) of the items; all randomness of patches and noise comes from `generator`."""
        items = [self._item(index, generator) for index in indices.tolist()]
        return torch.stack([item["lq"] for item in items]), torch.stack([item["gt"] for item in items])

    def _item(self, index: int, generator: torch.Generator | None) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a data set of {len(self)}")
        position = index % len(self.names)
        if self.patches is None:
            random = np.random.default_rng([self.seed, position])
        else:
            random = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
        gt, lq = self._read(self.names[position], random)
        return {"lq": to_tensor(lq), "gt": to_tensor(gt), "name": self.names[position]}

    def _read(self, name: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError


class PairedImages(_Images):
    """Degraded images and their ground truth.

    Arguments:
        gt, lq: sources of the ground truth and of the degraded images.
        scale: how many times larger the ground truth is. It may exceed scale x lq by less than `scale` pixels, which
            are then cut off at the bottom and at the right.
        filename_template: name of the degraded image without suffix, `{}` standing for that of the ground truth.
        patches: random patches for training; None for whole images.
        color: convert both to "gray" or "rgb"; None keeps them.
        enlarge: the length of the data set counts every image so many times.

    Raises:
        WithinError: when an image has no partner, the sizes of a pair do not match, or the patch does not fit.
    """

    def __init__(
        self,
        gt: ImageSource,
        lq: ImageSource,
        *,
        scale: int = 1,
        filename_template: str = "{}",
        patches: Patches | None = None,
        color: Color | None = None,
        enlarge: int = 1,
    ) -> None:
        self.gt, self.lq, self.scale = gt, lq, scale
        self.partner = _partners(gt, lq, filename_template)
        super().__init__(list(self.partner), patches, color, enlarge)
        for name, partner in self.partner.items():
            _check_pair(gt, lq, name, partner, scale)
        if patches is not None:
            patches.check({name: gt.sizes[name] for name in self.partner}, scale, gt.origin)

    def _read(self, name: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        gt, lq = self.gt.read(name), self.lq.read(self.partner[name])
        if self.color is not None:
            gt, lq = convert_color(gt, self.color), convert_color(lq, self.color)
        if gt.shape[2] != lq.shape[2]:
            raise WithinError(
                f"The ground truth {name} has {gt.shape[2]} channels, its partner {self.partner[name]} {lq.shape[2]}",
                where=f"{self.gt.origin} and {self.lq.origin}",
                todo='convert both: color="gray" or color="rgb"',
            )
        gt = gt[: lq.shape[0] * self.scale, : lq.shape[1] * self.scale]
        if self.patches is not None:
            return self.patches.cut(gt, lq, self.scale, random)
        return gt, lq


class DegradedImages(_Images):
    """Clean images, each degraded when it is read.

    Arguments:
        gt: source of the clean images.
        degradation: what makes the degraded image, see `degradations`. With patches it is applied to the patch.
        patches, color, enlarge: as for `PairedImages`.
        seed: of the noise on whole images.

    Raises:
        WithinError: when the patch does not fit.
    """

    def __init__(
        self,
        gt: ImageSource,
        degradation: Degradation,
        *,
        patches: Patches | None = None,
        color: Color | None = None,
        enlarge: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(list(gt.sizes), patches, color, enlarge, seed)
        self.gt, self.degradation = gt, degradation
        self.scale = degradation.scale
        if patches is not None:
            patches.check(dict(gt.sizes), self.scale, gt.origin)

    def _read(self, name: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        gt = modcrop(self.gt.read(name), self.scale)
        if self.color is not None:
            gt = convert_color(gt, self.color)
        if self.patches is not None:
            gt, _ = self.patches.cut(gt, gt, 1, random)
        return gt, self.degradation(gt, random)


def open_source(
    folder: str | Path,
    *,
    meta_info: str | Path | None = None,
    backend: Literal["disk", "lmdb"] = "disk",
    skip_bad: bool = False,
) -> ImageSource:
    """Opens a folder of images or an LMDB.

    Arguments:
        folder: the folder, or the `*.lmdb` folder.
        meta_info: a meta-information file that lists the images to take (disk only).
        backend: "disk" or "lmdb".
        skip_bad: leave out files that cannot be read, with a warning (disk only).

    Raises:
        WithinError: see `FolderImages`, `LmdbImages` and `read_meta_info`; also when a file differs from the shape or
            the CRC that its line gives.
    """
    if backend == "lmdb":
        return LmdbImages(folder)
    if meta_info is None:
        return FolderImages(folder, skip_bad=skip_bad)
    entries = read_meta_info(meta_info)
    source = FolderImages(folder, [entry.name for entry in entries], skip_bad=skip_bad)
    for entry in entries:
        if entry.name in source.sizes:
            _check_entry(entry, source, str(meta_info))
    return source


def open_pair(
    dataroot_gt: str | Path,
    dataroot_lq: str | Path,
    *,
    meta_info: str | Path | None = None,
    backend: Literal["disk", "lmdb"] = "disk",
    filename_template: str = "{}",
    skip_bad: bool = False,
    **options: Any,
) -> PairedImages:
    """Opens a paired data set from two folders, two folders and a meta-information file, or two LMDBs.

    Arguments:
        dataroot_gt, dataroot_lq: folders of the ground truth and of the degraded images.
        meta_info, backend, skip_bad: see `open_source`.
        filename_template, options: see `PairedImages`.

    Raises:
        WithinError: see `open_source` and `PairedImages`.
    """
    gt = open_source(dataroot_gt, meta_info=meta_info, backend=backend, skip_bad=skip_bad)
    lq: ImageSource
    if meta_info is not None and backend == "disk":
        names = [str(Path(name).with_name(_rename(name, filename_template))) for name in gt.sizes]
        lq = FolderImages(dataroot_lq, names, skip_bad=skip_bad)
    else:
        lq = open_source(dataroot_lq, backend=backend, skip_bad=skip_bad)
    return PairedImages(gt, lq, filename_template=filename_template, **options)


def _check_entry(entry: ImageEntry, source: FolderImages, meta_info: str) -> None:
    if entry.shape is not None and source.sizes[entry.name] != entry.shape[:2]:
        height, width = source.sizes[entry.name]
        raise WithinError(
            f"{entry.name} is {height}x{width} pixels, the meta-info file says {entry.shape[0]}x{entry.shape[1]}",
            where=f"{source.origin} and {meta_info}",
            todo="write the meta-info file anew",
        )
    check_crc(entry, source.folder)


def _rename(name: str, template: str) -> str:
    if template.count("{}") != 1:
        raise WithinError(f"The file name template {template!r} must hold {{}} once", where="filename_tmpl")
    path = Path(name)
    return template.replace("{}", path.stem) + path.suffix


def _partners(gt: ImageSource, lq: ImageSource, template: str) -> Mapping[str, str]:
    """Returns the name in `lq` for each name in `gt`; the same suffix first, then the same name without suffix."""
    by_stem = {str(Path(name).with_suffix("")): name for name in lq.sizes}
    skipped = {str(Path(name).with_suffix("")) for source in (gt, lq) for name in getattr(source, "skipped", {})}
    partner: dict[str, str] = {}
    alone = []
    for name in gt.sizes:
        renamed = str(Path(name).with_name(_rename(name, template)))
        stem = str(Path(renamed).with_suffix(""))
        if renamed in lq.sizes or stem in by_stem:
            partner[name] = renamed if renamed in lq.sizes else by_stem[stem]
        elif stem not in skipped:
            alone.append(renamed)
    if alone:
        raise WithinError(
            f"{len(alone)} images of {gt.origin} have no partner: {', '.join(alone[:5])} is missing",
            where=lq.origin,
            todo='add the missing images, or set filename_tmpl (for example "{}x4")',
        )
    rest = sorted(set(lq.sizes) - set(partner.values()))
    rest = [name for name in rest if not any(_belongs(name, stem, template) for stem in skipped)]
    if rest:
        raise WithinError(
            f"{len(rest)} images have no ground truth: {', '.join(rest[:5])}",
            where=lq.origin,
            todo=f"add their ground truth to {gt.origin}, or remove them",
        )
    return partner


def _belongs(name: str, stem: str, template: str) -> bool:
    return str(Path(name).with_suffix("")) == str(Path(stem).with_name(template.replace("{}", Path(stem).name)))


def _check_pair(gt: ImageSource, lq: ImageSource, name: str, partner: str, scale: int) -> None:
    large: Size = gt.sizes[name]
    small: Size = lq.sizes[partner]
    if not all(0 <= a - b * scale < scale for a, b in zip(large, small)):
        raise WithinError(
            f"The sizes of a pair do not match at scale {scale}: {name} is {large[0]}x{large[1]}, "
            f"{partner} is {small[0]}x{small[1]} (height x width)",
            where=f"{gt.origin} and {lq.origin}",
            todo="check scale and filename_tmpl, or make the degraded image again",
        )
