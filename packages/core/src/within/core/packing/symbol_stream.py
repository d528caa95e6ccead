"""A stream of small numbers with all that is needed to read it: of fixed width, or Huffman coded with its code table.

kind            1 byte: the width in bits of every symbol (0 to 57), or 128 + w for a Huffman code
table           Huffman only: highest symbol + 1 as a number; then the length of every code, w bits each
length          Huffman only: bytes of the stream as a number; absent when w = 0, an alphabet of one symbol
stream          the symbols, filled up with zero bits
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.core.packing.bit_stream import read_bits, stream_bytes, write_bits
from within.core.packing.byte_reader import ByteReader, write_number
from within.core.packing.huffman import code_lengths, decode, encode, encoded_bits, is_complete

HUFFMAN = 128


@dataclass(frozen=True)
class SymbolCode:
    """How the symbols of a stream are written.

    Attributes:
        lengths: bits of each symbol's code.
        fixed: the width of all symbols, or None for a Huffman code.
        stream_bits: length of the stream.
    """

    lengths: NDArray[np.int64]
    fixed: int | None
    stream_bits: int

    @property
    def table(self) -> bytes:
        """The code table of a Huffman code, its first number included."""
        if self.fixed is not None:
            return b""
        width = int(self.lengths.max()).bit_length()
        return write_number(len(self.lengths)) + write_bits(self.lengths, width)

    @property
    def total_bytes(self) -> int:
        """The size of the stream with all that belongs to it."""
        size = 1 + len(self.table) + stream_bytes(self.stream_bits)
        return size + (len(write_number(stream_bytes(self.stream_bits))) if self._has_length else 0)

    @property
    def _has_length(self) -> bool:
        return self.fixed is None and bool(self.lengths.any())

    def write(self, symbols: NDArray[np.integer]) -> bytes:
        """Returns the stream with all that belongs to it."""
        if self.fixed is not None:
            return bytes([self.fixed]) + write_bits(symbols, self.fixed)
        stream = encode(symbols, self.lengths)
        kind = HUFFMAN + int(self.lengths.max()).bit_length()
        return bytes([kind]) + self.table + (write_number(len(stream)) if self._has_length else b"") + stream


def choose_code(counts: NDArray[np.integer], fixed_width: int, *, huffman: bool = True) -> SymbolCode:
    """Returns the shorter of a fixed width and a Huffman code with its table.

    Arguments:
        counts: how often each symbol occurs.
        fixed_width: bits that every symbol fits into.
        huffman: False takes the fixed width in any case.
    """
    counts = counts[: int(np.flatnonzero(counts)[-1]) + 1] if counts.any() else counts[:0]
    total = int(counts.sum())
    fixed = SymbolCode(np.full(1 << fixed_width, fixed_width), fixed_width if total else 0, fixed_width * total)
    if not huffman or not total:
        return fixed
    lengths = code_lengths(counts)
    coded = SymbolCode(lengths, None, encoded_bits(counts, lengths))
    return coded if coded.total_bytes < fixed.total_bytes else fixed


def read_symbols(reader: ByteReader, count: int) -> NDArray[np.int64]:
    """Reads a stream of `count` symbols.

    Raises:
        WithinError: when anything about it is inconsistent.
    """
    (kind,) = reader.take(1)
    if kind < HUFFMAN:
        if kind > 57:
            raise WithinError(f"There are no streams of {kind} bits a symbol")
        return read_bits(reader.take(stream_bytes(kind * count)), kind, count)
    width, symbols = kind - HUFFMAN, reader.number()
    if width > 6 or not 0 < symbols <= 8 * len(reader.data) + (1 << 16):
        raise WithinError(f"A code table of {symbols} symbols with lengths of {width} bits")
    if width == 0:
        return np.full(count, symbols - 1, dtype=np.int64)
    lengths = read_bits(reader.take(stream_bytes(width * symbols)), width, symbols)
    if not is_complete(lengths):
        raise WithinError("A code table is no complete code")
    return decode(reader.take(reader.number()), lengths, count)
