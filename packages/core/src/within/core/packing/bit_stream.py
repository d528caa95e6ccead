"""Whole numbers as a stream of bits, most significant bit first, filled up with zero bits to a whole byte."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError

CHUNK = 1 << 20  # numbers written at a time: bounds the memory of the intermediate arrays


def write_bits(values: NDArray[np.integer], widths: NDArray[np.integer] | int) -> bytes:
    """Writes every value with its own width.

    Arguments:
        values: numbers >= 0, each below 2^width.
        widths: bits of each, 0 to 57; a single width for all is enough.
    """
    widths = np.broadcast_to(np.asarray(widths, dtype=np.int64), values.shape)
    parts = [np.zeros(0, dtype=np.uint8)]
    for start in range(0, len(values), CHUNK):
        value = values[start : start + CHUNK].astype(np.uint64)
        width = widths[start : start + CHUNK]
        ends = np.cumsum(width)
        left = np.repeat(ends, width) - np.arange(ends[-1]) - 1  # bits of the same number that are still to come
        parts.append((np.repeat(value, width) >> left.astype(np.uint64) & np.uint64(1)).astype(np.uint8))
    return np.packbits(np.concatenate(parts)).tobytes()


def read_bits(data: bytes, width: int, count: int) -> NDArray[np.int64]:
    """Reads `count` numbers of `width` bits each.

    Raises:
        WithinError: when the stream is not exactly as long as that, or its filling is not zero.
    """
    if len(data) != stream_bytes(width * count):
        raise WithinError(f"A stream of {count} numbers of {width} bits has {len(data)} bytes")
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    if bits[width * count :].any():
        raise WithinError("The filling at the end of a stream is not zero")
    values = np.zeros(count, dtype=np.int64)
    for column in bits[: width * count].reshape(count, width).T if width else ():
        values = values << 1 | column
    return values


def stream_bytes(bits: int) -> int:
    """Returns the number of bytes that hold so many bits."""
    return (bits + 7) // 8
