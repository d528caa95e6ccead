"""Canonical Huffman codes: only the length of each symbol's code is stored, the codes follow from the lengths.

Huffman, "A method for the construction of minimum-redundancy codes", Proceedings of the IRE, 1952. The mean length L of
the code obeys H <= L < H + 1, with H the entropy of the symbols. An alphabet of one symbol has L = H = 0: its stream is
empty. Codes of equal length are consecutive numbers in the order of the symbols, shorter ones first.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.core.packing.bit_stream import stream_bytes, write_bits

LONGEST = 57  # a window of this many bits, at any of the eight bit positions of a byte, lies within eight bytes
CHUNK = 1 << 17  # bytes decoded at a time


def entropy(counts: NDArray[np.integer]) -> float:
    """Returns H = -sum p log2 p in bits a symbol; 0 without symbols."""
    used = counts[counts > 0].astype(np.float64)
    share = used / used.sum() if used.size else used
    return float(-(share * np.log2(share)).sum()) if used.size > 1 else 0.0


def code_lengths(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the length of every symbol's code, 0 for symbols that do not occur and for the only one that does.

    Arguments:
        counts: how often each symbol occurs; equal counts are merged in the order of the symbols.
    """
    lengths = np.zeros(len(counts), dtype=np.int64)
    used = np.flatnonzero(counts).tolist()
    heap = [(int(counts[symbol]), number, number) for number, symbol in enumerate(used)]
    heapq.heapify(heap)
    parents: dict[int, int] = {}
    for node in range(len(used), 2 * len(used) - 1):
        (first, _, left), (second, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        parents[left] = parents[right] = node
        heapq.heappush(heap, (first + second, node, node))
    depths = {2 * len(used) - 2: 0}
    for node in range(2 * len(used) - 3, -1, -1):
        depths[node] = depths[parents[node]] + 1
    lengths[used] = [depths[number] for number in range(len(used))]
    return lengths


def canonical_codes(lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Returns the code of every symbol; 0 where the length is 0."""
    codes = np.zeros(len(lengths), dtype=np.uint64)
    code, previous = 0, 0
    for symbol in _by_length(lengths).tolist():
        length = int(lengths[symbol])
        code = code + 1 << length - previous if previous else 0
        codes[symbol], previous = code, length
    return codes


def is_complete(lengths: NDArray[np.int64]) -> bool:
    """Tells whether every sequence of bits can be decoded: sum 2^-length = 1 (Kraft), no length above `LONGEST`."""
    used = lengths[lengths > 0]
    return bool(used.size) and int(used.max()) <= LONGEST and sum(1 << LONGEST - int(n) for n in used) == 1 << LONGEST


def encode(symbols: NDArray[np.integer], lengths: NDArray[np.int64]) -> bytes:
    """Returns the stream of the symbols' codes."""
    return write_bits(canonical_codes(lengths)[symbols], lengths[symbols])


def encoded_bits(counts: NDArray[np.integer], lengths: NDArray[np.int64]) -> int:
    """Returns the length of the stream without writing it."""
    return int((counts * lengths).sum())


def decode(data: bytes, lengths: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Reads `count` symbols.

    The length of the code that would start at each bit is found for all bits at once; then the starts are followed.

    Arguments:
        data: the stream.
        lengths: of a complete code.

    Raises:
        WithinError: when the stream is shorter or longer than its symbols, or its filling is not zero.
    """
    order = _by_length(lengths)
    longest = int(lengths.max())
    sorted_lengths = lengths[order]
    # A code of length l, moved to the left of a window of `longest` bits, is the start of an interval of the windows.
    starts = canonical_codes(lengths)[order] << (longest - sorted_lengths).astype(np.uint64)
    padded = np.concatenate([np.frombuffer(data, dtype=np.uint8), np.zeros(8, dtype=np.uint8)])
    found: list[NDArray[np.int64]] = []
    position, missing = 0, count  # position: of the next code, in bits from the start of the stream
    for begin in range(0, len(data), CHUNK):
        windows = _windows(padded, begin, min(begin + CHUNK, len(data)), longest)
        ranks = np.searchsorted(starts, windows, side="right") - 1
        steps = sorted_lengths[ranks].tolist()
        here, visited = position - 8 * begin, []
        while missing and here < len(steps):
            visited.append(here)
            here += steps[here]
            missing -= 1
        found.append(order[ranks[visited]])
        position = 8 * begin + here
    if missing or stream_bytes(position) != len(data):
        raise WithinError(f"A stream of {len(data)} bytes does not hold exactly {count} symbols")
    if position % 8 and data[-1] & (1 << 8 - position % 8) - 1:
        raise WithinError("The filling at the end of a stream is not zero")
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def _by_length(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the symbols that have a code, by length and then by number."""
    used = np.flatnonzero(lengths)
    return used[np.argsort(lengths[used], kind="stable")]


def _windows(padded: NDArray[np.uint8], begin: int, end: int, width: int) -> NDArray[np.uint64]:
    """Returns the `width` bits that follow every bit of the bytes `begin` to `end`."""
    words = np.zeros(end - begin, dtype=np.uint64)
    for offset in range(8):
        words = words << np.uint64(8) | padded[begin + offset : end + offset]
    phases = words[:, None] << np.arange(8, dtype=np.uint64)
    return (phases >> np.uint64(64 - width)).reshape(-1)
