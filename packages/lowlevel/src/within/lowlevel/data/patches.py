"""Random patches: aligned crops of a pair, flipped and rotated, as a pure function of a random generator.

The crop is drawn on the grid of the degraded image, so that a patch of size s/scale covers a patch of size s. A flip
left-right, a flip up-down and a transposition, each with probability 1/2, give the eight symmetries of the square.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from within.core.errors import WithinError


@dataclass(frozen=True)
class Patches:
    """What is cut from each image during training.

    Attributes:
        gt_size: height and width of the patch of the ground truth, in pixels.
        flip: flip left-right with probability 1/2.
        rotate: flip up-down and transpose, each with probability 1/2.
    """

    gt_size: int
    flip: bool = True
    rotate: bool = True

    def check(self, sizes: Mapping[str, tuple[int, int]], scale: int, origin: str) -> None:
        """Refuses a patch that is no multiple of `scale` or that does not fit into every image.

        Raises:
            WithinError: naming an image that is too small.
        """
        if self.gt_size < scale or self.gt_size % scale:
            raise WithinError(
                f"The patch size {self.gt_size} is not a multiple of the scale {scale}",
                where="gt_size",
                todo=f"take {max(1, self.gt_size // scale) * scale}",
            )
        small = [name for name, size in sizes.items() if min(size) // scale * scale < self.gt_size]
        if small:
            height, width = sizes[small[0]]
            raise WithinError(
                f"{len(small)} images are smaller than the patch size {self.gt_size}: "
                f"{small[0]} is {height}x{width} pixels (height x width)",
                where=origin,
                todo="choose a smaller gt_size or remove these images",
            )

    def cut(
        self, gt: np.ndarray, lq: np.ndarray, scale: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the same random patch of both images (height, width, channels); `lq` is `scale` times smaller."""
        size = self.gt_size // scale
        height, width = gt.shape[0] // scale, gt.shape[1] // scale
        top = int(generator.integers(0, height - size + 1))
        left = int(generator.integers(0, width - size + 1))
        flip_columns = self.flip and generator.random() < 0.5
        flip_rows = self.rotate and generator.random() < 0.5
        transpose = self.rotate and generator.random() < 0.5

        def patch(image: np.ndarray, factor: int) -> np.ndarray:
            rows = slice(top * factor, (top + size) * factor)
            columns = slice(left * factor, (left + size) * factor)
            result = image[rows, columns]
            result = result[:, ::-1] if flip_columns else result
            result = result[::-1] if flip_rows else result
            result = result.transpose(1, 0, 2) if transpose else result
            return np.ascontiguousarray(result)

        return patch(gt, scale), patch(lq, 1)
