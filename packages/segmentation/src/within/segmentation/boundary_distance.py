"""How far each pixel of a label image is from the nearest pixel of another class.

    d(p) = min { |p - q| : label(q) != label(p) }

the Euclidean distance transform within each class, exact, for all classes in one pass. Void is a class like any other
here, and the edge of the image is no boundary. With g(y, x) the distance within the column, what is nearest is found
along the row (Felzenszwalb, Huttenlocher, Theory of Computing 2012):

    d(y, x)^2 = min over x' of (x - x')^2 + (g(y, x')^2 if label(y, x') = label(y, x) else 0)

Only the run of equal pixels around x matters, and its two ends. Inside a run, k steps to the neighbours that cost
1, 3, ..., 2k - 1 add up to k^2 (Huang, Mitchell, TPAMI 1994), so the minimum takes as many passes over the rows as the
distance that still has to be decided, and rows where all is decided drop out: a bin that begins at 16 takes 15 passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64, Integer
from torch import Tensor

_FAR_LENGTH = 23_170  # beyond every distance
_FAR = _FAR_LENGTH**2  # twice as much is still an int32
_PASSES = 8  # over the rows, before looking again whether more are needed


def boundary_distance(labels: Integer[Tensor, "*batch height width"]) -> Float32[Tensor, "*batch height width"]:
    """Returns the distance in pixels, 1 and above; infinity where an image has one class only."""
    squares = _squared_distance(labels, lambda bound: bound)
    return squares.double().sqrt().float().masked_fill(squares == _FAR, torch.inf)


def boundary_bins(
    labels: Integer[Tensor, "*batch height width"], edges: Sequence[float]
) -> Int64[Tensor, "*batch height width"]:
    """Returns the bin of each distance: how many of the ascending `edges` it reaches (d >= edge)."""
    squares = torch.tensor([_square_at(edge) for edge in edges], dtype=torch.int32, device=labels.device)
    starts = torch.cat([squares.new_zeros(1), squares])

    def bin_of(bound: Tensor) -> Tensor:
        return torch.bucketize(bound, squares, right=True)

    return bin_of(_squared_distance(labels, lambda bound: starts[bin_of(bound)]))


def _squared_distance(labels: Tensor, needed: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns d^2 (int32), or an upper bound b of it where d^2 >= needed(b) is certain; `needed` is monotonic."""
    rows = labels.reshape(-1, labels.shape[-1])
    column = _run_end(labels, -2).square_().reshape(rows.shape)  # g^2
    along = _run_end(labels, -1).square_().reshape(rows.shape)  # to the ends of the run
    cost = torch.where(rows[:, 1:] == rows[:, :-1], 1, _FAR).int()
    distance = torch.minimum(column, along)
    unsettled = torch.arange(len(rows), device=labels.device)
    for offset in range(1, rows.shape[1]):
        if offset % _PASSES == 1:
            # A pixel found at this offset along the row is at offset^2 + 1 or more, since g >= 1 there.
            bound = torch.minimum(column, along)
            distance[unsettled] = bound
            going = needed(bound.amax(1)) > offset**2 + 1
            unsettled, column, along, cost = (values[going] for values in (unsettled, column, along, cost))
            if not len(unsettled):
                break
        left, right = column[:, :-1], column[:, 1:]
        torch.minimum(right, left + cost, out=right)
        torch.minimum(left, right + cost, out=left)
        cost += 2
    distance[unsettled] = torch.minimum(column, along)
    return distance.reshape(labels.shape)


def _square_at(edge: float) -> int:
    """Returns the least whole n whose root, as a floating-point number, reaches the edge."""
    square = math.ceil(edge**2)
    return square - (square > 0 and math.sqrt(square - 1) >= edge)


def _run_end(labels: Tensor, axis: int) -> Tensor:
    """Returns the distance along an axis to the nearest pixel of another class (int32); `_FAR_LENGTH` for none."""
    lines = labels.movedim(axis, -1)
    places = torch.arange(lines.shape[-1], dtype=torch.int32, device=labels.device)

    def before(values: Tensor) -> Tensor:
        changes = torch.where(values[..., 1:] != values[..., :-1], places[1:], 0)
        starts = F.pad(changes, (1, 0)).cummax(-1).values  # where the run of equal pixels began
        return torch.where(starts > 0, places - starts + 1, _FAR_LENGTH)

    return torch.minimum(before(lines), before(lines.flip(-1)).flip(-1)).movedim(-1, axis).contiguous()
