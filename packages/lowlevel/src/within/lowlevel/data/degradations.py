"""Degradations: noise in the protocols of published tables, bicubic downscaling, JPEG compression.

A degradation maps a clean image (height, width, channels) of `uint8` or `uint16` to the degraded one: `float32`
around [0, 1] where the protocol keeps the real values, or the integer type of the input where it rounds. `scale`
says how many times smaller the result is.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from within.core.errors import WithinError
from within.lowlevel.data.images import ImageArray
from within.lowlevel.data.resize import imresize


@runtime_checkable
class Degradation(Protocol):
    """Anything that degrades an image."""

    @property
    def scale(self) -> int:
        """How many times smaller the result is."""
        ...

    def __call__(self, image: ImageArray, generator: np.random.Generator) -> np.ndarray:
        """Returns the degraded image; all randomness comes from `generator` or from the protocol's own seed."""
        ...


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white Gaussian noise.

    Attributes:
        sigma: standard deviation on the scale 0..255, or a range (low, high) from which each image draws its own.
        protocol: "random" adds noise from the generator, in floating point and without clipping (training).
            "kair" is the test protocol of KAIR and of many papers: the legacy NumPy generator is seeded with 0 before
            every image, and the values are neither clipped nor rounded. "n2n" is that of the Noise2Noise U-Net's
            checkpoints: the same draw, clipped to 0..255 and cut to whole numbers.
    """

    sigma: float | tuple[float, float]
    protocol: Literal["random", "kair", "n2n"] = "random"
    scale: ClassVar[int] = 1

    def __post_init__(self) -> None:
        lowest = min(self.sigma) if isinstance(self.sigma, tuple) else self.sigma
        if lowest < 0:
            raise WithinError(f"The standard deviation of noise is not negative: {self.sigma}", where="sigma")
        if self.protocol != "random" and isinstance(self.sigma, tuple):
            raise WithinError(f"The protocol {self.protocol!r} takes one sigma, not a range", where="sigma")

    def __call__(
        self, image: ImageArray, generator: np.random.Generator
    ) -> Float32[np.ndarray, "height width channels"] | UInt8[np.ndarray, "height width channels"]:
        """Returns `float32` around [0, 1], or `uint8` for the protocol "n2n"."""
        clean = unit_range(image)
        sigma = generator.uniform(*self.sigma) if isinstance(self.sigma, tuple) else self.sigma
        if self.protocol == "random":
            return clean + generator.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma / 255)
        legacy = np.random.RandomState(0)
        if self.protocol == "kair":
            return (clean + legacy.normal(0, sigma / 255, image.shape)).astype(np.float32)
        noisy = clean.astype(np.float64) * 255 + legacy.normal(0, sigma, image.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class PoissonGaussianNoise:
    """Signal-dependent noise of a camera sensor: variance = shot * x + read, for x in [0, 1] (Foi et al., 2008).

    Attributes:
        shot: variance per unit of signal (photon noise), or a range to draw from, uniformly in the logarithm.
        read: variance of the dark signal (read-out noise), or such a range.
        clip: clip the result to [0, 1], as a sensor does.
    """

    shot: float | tuple[float, float] = (1e-4, 1e-2)
    read: float | tuple[float, float] = (1e-6, 1e-3)
    clip: bool = True
    scale: ClassVar[int] = 1

    def __call__(
        self, image: ImageArray, generator: np.random.Generator
    ) -> Float32[np.ndarray, "height width channels"]:
        """Returns `float32`, in [0, 1] when clipped."""
        clean = unit_range(image)
        variance = _draw(self.shot, generator) * clean + _draw(self.read, generator)
        noisy = clean + np.sqrt(variance) * generator.standard_normal(image.shape, dtype=np.float32)
        return (np.clip(noisy, 0, 1) if self.clip else noisy).astype(np.float32)


@dataclass(frozen=True)
class BicubicDownscale:
    """Downscaling by a whole number, see `resize.imresize`; the image's sides must be multiples of it (`modcrop`)."""

    scale: int
    variant: Literal["matlab", "basicsr"] = "matlab"

    def __call__(self, image: ImageArray, generator: np.random.Generator) -> np.ndarray:
        """Returns the input's type ("matlab") or `float32` around [0, 1] ("basicsr")."""
        if image.shape[0] % self.scale or image.shape[1] % self.scale:
            raise WithinError(
                f"An image of {image.shape[0]}x{image.shape[1]} pixels cannot be downscaled by {self.scale}",
                todo="crop it first with modcrop",
            )
        if self.variant == "matlab":
            return imresize(image, 1 / self.scale)
        return imresize(unit_range(image), 1 / self.scale, variant="basicsr").astype(np.float32)


@dataclass(frozen=True)
class JpegCompression:
    """JPEG at a quality, or at one drawn from a range; needs 8-bit images."""

    quality: int | tuple[int, int]
    scale: ClassVar[int] = 1

    def __call__(self, image: ImageArray, generator: np.random.Generator) -> UInt8[np.ndarray, "height width channels"]:
        """Returns the decoded image."""
        if image.dtype != np.uint8:
            raise WithinError("JPEG compression needs images of 8 bits", todo="convert them first")
        quality = self.quality
        if isinstance(quality, tuple):
            quality = int(generator.integers(quality[0], quality[1] + 1))
        stream = io.BytesIO()
        squeezed = image[:, :, 0] if image.shape[2] == 1 else image
        Image.fromarray(np.ascontiguousarray(squeezed)).save(stream, "JPEG", quality=quality)
        return np.array(Image.open(stream)).reshape(image.shape)


@dataclass(frozen=True)
class Chain:
    """Degradations one after the other; all but the last must keep integers."""

    steps: tuple[Degradation, ...]

    @property
    def scale(self) -> int:
        """The product of the steps' scales."""
        return int(np.prod([step.scale for step in self.steps]))

    def __call__(self, image: ImageArray, generator: np.random.Generator) -> np.ndarray:
        """Returns what the last step returns."""
        for step in self.steps:
            image = step(image, generator)
        return image


def unit_range(image: ImageArray) -> Float32[np.ndarray, "height width channels"]:
    """Returns the image as `float32` in [0, 1]."""
    return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)


def _draw(value: float | tuple[float, float], generator: np.random.Generator) -> np.float32:
    if isinstance(value, tuple):
        return np.float32(np.exp(generator.uniform(np.log(value[0]), np.log(value[1]))))
    return np.float32(value)
