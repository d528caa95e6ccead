"""Positions of a sparse tensor's entries as b-bit gaps in flattened order.

Han, Mao, Dally, "Deep Compression", ICLR 2016, section 2, figure 2. A gap counts the zeros passed over before an entry,
0 to 2^b - 1. Where more zeros follow each other, an entry with the value zero is inserted at the maximum gap ("padding
zero") and counting starts again. Zeros after the last entry need nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError

MOST_BITS = 16


def encode_positions(positions: NDArray[np.int64], bits: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the gap of every entry, padding included, and which entries are padding.

    Arguments:
        positions: of the nonzeros, ascending, without repetition.
        bits: b, 1 to 16.

    Raises:
        WithinError: when the number of bits is out of range.
    """
    if not 1 <= bits <= MOST_BITS:
        raise WithinError(f"A gap of {bits} bits", where="gap_bits", todo=f"choose 1 to {MOST_BITS}")
    zeros = np.diff(positions, prepend=-1) - 1
    padding = zeros >> bits  # a padding entry covers 2^b positions: its gap and itself
    ends = np.cumsum(padding + 1)
    gaps = np.full(int(ends[-1]) if len(ends) else 0, (1 << bits) - 1, dtype=np.int64)
    is_padding = np.ones(len(gaps), dtype=np.bool_)
    gaps[ends - 1] = zeros & (1 << bits) - 1
    is_padding[ends - 1] = False
    return gaps, is_padding


def decode_positions(gaps: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Returns the positions of all entries, padding included.

    Raises:
        WithinError: when they lead beyond the `size` elements of the tensor.
    """
    positions = np.cumsum(gaps + 1) - 1
    if len(positions) and positions[-1] >= size:
        raise WithinError(f"The gaps lead to element {int(positions[-1])} of a tensor of {size} elements")
    return positions
