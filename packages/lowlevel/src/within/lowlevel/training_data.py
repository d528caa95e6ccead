"""Training data of restoration networks that `data.folders` does not make: grids of patches, noise levels, and tensors
prepared once.

`NoisyPatches` follows the published code of DnCNN (Zhang et al., TIP 2017): every image at several scales, a patch
at every `stride` pixels, noise and one of the eight flips and rotations drawn anew at each visit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.progress import track
from within.core.train import BatchSource, TensorBatches
from within.lowlevel.data.degradations import BicubicDownscale
from within.lowlevel.data.folders import PairedImages
from within.lowlevel.data.images import Color, ImageArray, convert_color
from within.lowlevel.data.patches import Patches
from within.lowlevel.data.resize import imresize, modcrop
from within.lowlevel.data.sources import ArrayImages, ImageSource

Images = Float[Tensor, "batch channels height width"]
Targets = Float[Tensor, "batch target_channels target_height target_width"]
_ANYWHERE = -1


@dataclass(frozen=True)
class Unchanged:
    """The degradation of photographs that are degraded already: none."""

    scale: int = 1

    def __call__(self, image: ImageArray, generator: np.random.Generator) -> ImageArray:
        """Returns the image."""
        return image


class NoisyPatches:
    """Patches on a grid over images at several scales, with Gaussian noise; a `BatchSource` in memory.

    Arguments:
        images: clean images.
        patch_size: height and width of a patch.
        stride: distance of neighbouring patches; None for one patch at a random place of each image and scale.
        sigma: standard deviation of the noise on the scale 0..255, or a range from which each patch draws its own.
        scales: sizes at which every image is used; resized by MATLAB's bicubic.
        color: convert to "gray" or "rgb"; None keeps.
        augment: one of the eight flips and rotations at each visit.
        enlarge: an epoch visits every patch so many times.
        noise_level_input: inputs are (image, noise level / 255), for networks that are told the level (FFDNet).

    Raises:
        WithinError: when an image is smaller than a patch at the smallest scale.
    """

    def __init__(
        self,
        images: ImageSource,
        *,
        patch_size: int,
        stride: int | None,
        sigma: float | tuple[float, float],
        scales: Sequence[float] = (1.0,),
        color: Color | None = None,
        augment: bool = True,
        enlarge: int = 1,
        noise_level_input: bool = False,
    ) -> None:
        self.patch_size, self.sigma = patch_size, sigma
        self.augment, self.noise_level_input = augment, noise_level_input
        self.names: list[str] = []
        self._images: list[Tensor] = []
        places = []
        for name in track(list(images.sizes), "cutting patches"):
            image = images.read(name)
            image = image if color is None else convert_color(image, color)
            for scale in scales:
                resized = image if scale == 1 else imresize(image, scale)
                if min(resized.shape[:2]) < patch_size:
                    raise WithinError(
                        f"{name} is {resized.shape[0]}x{resized.shape[1]} at scale {scale}, smaller than a patch of "
                        f"{patch_size}x{patch_size}",
                        where=images.origin,
                        todo="leave out this image, or choose smaller patches or larger scales",
                    )
                if stride is None:
                    places.append((len(self._images), _ANYWHERE, _ANYWHERE))
                else:
                    rows, columns = (range(0, size - patch_size + 1, stride) for size in resized.shape[:2])
                    places += [(len(self._images), row, column) for row in rows for column in columns]
                self.names.append(name)
                self._images.append(torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1))))
        self._places = torch.tensor(places).repeat(enlarge, 1)

    def __len__(self) -> int:
        return len(self._places)

    def item_name(self, index: int) -> str:
        """Returns the image of a patch and where it lies in it."""
        image, row, column = self._places[index].tolist()
        return self.names[image] if row == _ANYWHERE else f"{self.names[image]} at row {row}, column {column}"

    def batch(self, indices: Int64[Tensor, " batch"], generator: torch.Generator) -> tuple[Any, Images]:
        """Returns (noisy, clean), or ((noisy, levels), clean)."""
        patches = [self._cut(*place, generator) for place in self._places[indices].tolist()]
        if self.augment:
            turns = torch.randint(8, (len(patches),), generator=generator).tolist()
            patches = [_symmetry(patch, turn) for patch, turn in zip(patches, turns, strict=True)]
        stacked = torch.stack(patches)
        clean = stacked.float().div_(torch.iinfo(stacked.dtype).max)
        levels = self._levels(len(clean), generator) / 255
        noisy = clean + levels * torch.randn(clean.shape, generator=generator)
        return ((noisy, levels) if self.noise_level_input else noisy), clean

    def _cut(self, image: int, row: int, column: int, generator: torch.Generator) -> Tensor:
        size, found = self.patch_size, self._images[image]
        if row == _ANYWHERE:
            row = int(torch.randint(found.shape[1] - size + 1, (), generator=generator))
            column = int(torch.randint(found.shape[2] - size + 1, (), generator=generator))
        return found[:, row : row + size, column : column + size]

    def _levels(self, count: int, generator: torch.Generator) -> Float[Tensor, "count 1 1 1"]:
        if isinstance(self.sigma, Sequence):
            low, high = self.sigma
            return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)
        return torch.full((count, 1, 1, 1), float(self.sigma))


class TurnedTensors:
    """Prepared items, each batch turned or flipped as a whole; a `BatchSource`.

    One symmetry for the whole batch costs next to nothing, and items that come again come differently.

    Arguments:
        inputs, target: as `prepare` returns them.
    """

    def __init__(self, inputs: Images, target: Targets) -> None:
        self._items = TensorBatches(inputs, target)

    def __len__(self) -> int:
        return len(self._items)

    def batch(self, indices: Int64[Tensor, " batch"], generator: torch.Generator) -> tuple[Images, Targets]:
        """Returns the chosen items in one of the eight flips and rotations."""
        inputs, target = self._items.batch(indices, generator)
        turn = int(torch.randint(8, (), generator=generator))
        return _symmetry(inputs, turn), _symmetry(target, turn)


def bicubic_pairs(
    images: ImageSource, scale: int, *, patches: Patches | None, color: Color | None = None, enlarge: int = 1
) -> PairedImages:
    """Returns pairs whose low-resolution images are made once, in memory, from whole images.

    Published training sets are made so; downscaling patch by patch would mirror at every patch's border.

    Arguments:
        images: high-resolution images; they are held in memory.
        scale: of super-resolution.
        patches, color, enlarge: see `PairedImages`.
    """
    downscale, unused = BicubicDownscale(scale), np.random.default_rng(0)
    large: dict[str, ImageArray] = {}
    for name in images.sizes:
        image = images.read(name)
        large[name] = modcrop(image if color is None else convert_color(image, color), scale)
    small = {name: downscale(image, unused) for name, image in track(list(large.items()), "downscaling")}
    gt, lq = ArrayImages(large, images.origin), ArrayImages(small, f"{images.origin}, downscaled by {scale}")
    return PairedImages(gt, lq, scale=scale, patches=patches, enlarge=enlarge)


def prepare(source: BatchSource, count: int, *, seed: int = 0) -> tuple[Images, Targets]:
    """Draws `count` items once and returns them as tensors (inputs, targets).

    Training on tensors costs next to nothing beside the network, and several networks can share them.

    Arguments:
        source: such as `data.folders.DegradedImages` with patches; items are taken in order, round after round.
        count: number of items.
        seed: of patches and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [source.batch(torch.tensor([item % len(source)]), generator) for item in range(count)]
    return torch.cat([inputs for inputs, _ in drawn]), torch.cat([target for _, target in drawn])


def teacher_outputs(
    teacher: nn.Module, inputs: Images, *, batch_size: int = 16, device: str | torch.device = "cpu"
) -> Targets:
    """Returns what the teacher makes of the inputs, to be learnt as targets without running it at every step.

    Arguments:
        teacher: moved to `device`, run in evaluation mode and put back into its mode.
        inputs: as `prepare` returns them.
        batch_size: images at once.
        device: where the teacher runs; the result is on the CPU.

    Raises:
        WithinError: when an output holds NaN or infinity.
    """
    training = teacher.training
    teacher.to(device).eval()
    layout = torch.channels_last if inputs.ndim == 4 else torch.contiguous_format
    outputs = []
    try:
        with torch.no_grad():
            for start in track(range(0, len(inputs), batch_size), "running the teacher"):
                batch = inputs[start : start + batch_size].to(device).contiguous(memory_format=layout)
                outputs.append(teacher(batch).cpu().contiguous())
    finally:
        teacher.train(training)
    result = torch.cat(outputs)
    if not torch.isfinite(result).all():
        raise WithinError("The teacher returns NaN or infinity", todo="check its weights and the images")
    return result


def _symmetry(patch: Tensor, turn: int) -> Tensor:
    """Returns one of the eight flips and rotations of the square."""
    turned = torch.rot90(patch, turn % 4, (-2, -1)) if turn % 4 else patch
    return turned.flip(-1) if turn >= 4 else turned
