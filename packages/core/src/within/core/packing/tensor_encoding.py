"""One tensor to bytes and back, by its bit patterns, so that what is read is what was written in every bit.

    dense       the elements, little-endian
    sparse      number of entries; stream of gaps; the entries' values, little-endian
    shared      number of entries; number of values in the codebook; the codebook, little-endian; stream of gaps; stream
                of codes

Only elements whose bits are all zero are left out, so a negative zero stays one. The shortest of the three is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.core.packing.accounting import TensorAccount
from within.core.packing.byte_reader import ByteReader, write_number
from within.core.packing.relative_index import MOST_BITS, decode_positions, encode_positions
from within.core.packing.symbol_stream import SymbolCode, choose_code, read_symbols

DENSE, SPARSE, SHARED, ALIAS = range(4)
ENCODINGS = ("dense", "sparse", "shared", "alias")
MOST_CLUSTERS = 1 << 16


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor in the file.

    Attributes:
        encoding: an index of `ENCODINGS`.
        payload: its bytes.
        account: where they go; without the checksum.
    """

    encoding: int
    payload: bytes
    account: TensorAccount


def encode_tensor(
    name: str, elements: NDArray[np.unsignedinteger], *, gap_bits: int | None = None, huffman: bool = True
) -> EncodedTensor:
    """Encodes a flattened tensor in the shortest way.

    Arguments:
        name: for the account.
        elements: bit patterns.
        gap_bits: bits of a gap; None takes what makes the tensor smallest.
        huffman: False writes streams of fixed width.
    """
    size, item_bits = len(elements), 8 * elements.itemsize
    raw = _little_endian(elements)
    account = TensorAccount(name, "dense", size, len(raw), nonzeros=size, dense=8 * len(raw))
    candidates = [EncodedTensor(DENSE, raw, account)]
    positions = np.flatnonzero(elements)
    values = elements[positions]
    distinct, codes = np.unique(values, return_inverse=True)
    if len(distinct) < min(MOST_CLUSTERS, max(len(values), 2)):
        counts = np.bincount(codes, minlength=len(distinct))
        candidates.append(_shared(name, elements, positions, distinct, counts, gap_bits, huffman))
    if len(positions) < size:
        plan = _plan(positions, None, item_bits, gap_bits, huffman)
        gaps, padding = encode_positions(positions, plan.bits)
        stored = np.zeros(len(gaps), dtype=elements.dtype)
        stored[~padding] = values
        count = write_number(len(gaps))
        payload = count + plan.gap_code.write(gaps) + _little_endian(stored)
        padded_bits = int(plan.gap_code.lengths[gaps[padding]].sum())
        tables = 8 * len(plan.gap_code.table)
        account = TensorAccount(
            name,
            "sparse",
            size,
            len(raw),
            nonzeros=len(positions),
            padding_entries=int(padding.sum()),
            weights=item_bits * len(positions),
            indices=plan.gap_code.stream_bits - padded_bits,
            padding=padded_bits + item_bits * int(padding.sum()),
            code_tables=tables,
            framing=8 * len(payload) - item_bits * len(stored) - plan.gap_code.stream_bits - tables,
        )
        candidates.append(EncodedTensor(SPARSE, payload, account))
    return min(candidates, key=lambda candidate: len(candidate.payload))


def decode_tensor(encoding: int, payload: bytes, size: int, dtype: np.dtype) -> NDArray[np.unsignedinteger]:
    """Returns the bit patterns of a flattened tensor.

    Arguments:
        encoding: dense, sparse or shared.
        payload: what `encode_tensor` wrote.
        size: number of elements.
        dtype: unsigned, of the width of an element.

    Raises:
        WithinError: when anything about the payload is inconsistent.
    """
    reader, little = ByteReader(payload), dtype.newbyteorder("<")
    if encoding == DENSE:
        elements = np.frombuffer(reader.take(size * dtype.itemsize), dtype=little).astype(dtype)
        reader.finish()
        return elements
    entries = reader.number()
    if entries > size:
        raise WithinError(f"{entries} entries of a tensor of {size} elements")
    if encoding == SHARED:
        clusters = reader.number()
        codebook = np.frombuffer(reader.take(clusters * dtype.itemsize), dtype=little).astype(dtype)
    positions = decode_positions(read_symbols(reader, entries), size)
    if encoding == SHARED:
        codes = read_symbols(reader, entries)
        if entries and codes.max() >= clusters:
            raise WithinError(f"A code points behind the {clusters} values of its codebook")
        values = codebook[codes] if entries else codebook[:0]
    else:
        values = np.frombuffer(reader.take(entries * dtype.itemsize), dtype=little).astype(dtype)
    reader.finish()
    elements = np.zeros(size, dtype=dtype)
    elements[positions] = values
    return elements


@dataclass(frozen=True)
class _Plan:
    """Gaps of so many bits, and the codes of both streams."""

    bits: int
    gap_code: SymbolCode
    value_code: SymbolCode | None
    total_bytes: int


def _plan(
    positions: NDArray[np.int64],
    value_counts: NDArray[np.int64] | None,
    item_bits: int,
    gap_bits: int | None,
    huffman: bool,
) -> _Plan:
    """Finds the number of bits of a gap that makes both streams smallest.

    Arguments:
        positions: of the nonzeros.
        value_counts: of the codes; None where values are stored as they are.
        item_bits: of such a value.
    """
    zeros = np.diff(positions, prepend=-1) - 1
    plans = []
    for bits in range(1, MOST_BITS + 1) if gap_bits is None else (gap_bits,):
        padding = int((zeros >> bits).sum())
        counts = np.bincount(zeros & (1 << bits) - 1, minlength=1 << bits)
        counts[-1] += padding
        gap_code = choose_code(counts, bits, huffman=huffman)
        value_code, value_bytes = None, (len(positions) + padding) * item_bits // 8
        if value_counts is not None:
            with_padding = np.concatenate([[padding], value_counts]) if padding else value_counts
            value_code = choose_code(with_padding, _width(len(with_padding)), huffman=huffman)
            value_bytes = value_code.total_bytes + (item_bits // 8 if padding else 0)
        plans.append(_Plan(bits, gap_code, value_code, gap_code.total_bytes + value_bytes))
        if not len(zeros) or zeros.max() < 1 << bits:  # more bits change nothing
            break
    return min(plans, key=lambda plan: plan.total_bytes)


def _shared(
    name: str,
    elements: NDArray[np.unsignedinteger],
    positions: NDArray[np.int64],
    distinct: NDArray[np.unsignedinteger],
    counts: NDArray[np.int64],
    gap_bits: int | None,
    huffman: bool,
) -> EncodedTensor:
    item_bits = 8 * elements.itemsize
    plan = _plan(positions, counts, item_bits, gap_bits, huffman)
    assert plan.value_code is not None
    gaps, padding = encode_positions(positions, plan.bits)
    # Zero is smaller than any other bit pattern: where there is padding, its code is the first.
    codebook = np.concatenate([np.zeros(1, dtype=elements.dtype), distinct]) if padding.any() else distinct
    codes = np.zeros(len(gaps), dtype=np.int64)
    codes[~padding] = np.searchsorted(codebook, elements[positions])
    sizes = write_number(len(gaps)) + write_number(len(codebook))
    payload = sizes + _little_endian(codebook) + plan.gap_code.write(gaps) + plan.value_code.write(codes)
    padded_gaps = int(plan.gap_code.lengths[gaps[padding]].sum())
    padded_codes = int(plan.value_code.lengths[codes[padding]].sum())
    streams = plan.gap_code.stream_bits + plan.value_code.stream_bits
    tables = 8 * (len(plan.gap_code.table) + len(plan.value_code.table))
    account = TensorAccount(
        name,
        "shared",
        len(elements),
        len(elements) * elements.itemsize,
        nonzeros=len(positions),
        padding_entries=int(padding.sum()),
        clusters=len(codebook),
        weights=plan.value_code.stream_bits - padded_codes,
        indices=plan.gap_code.stream_bits - padded_gaps,
        padding=padded_gaps + padded_codes,
        codebooks=item_bits * len(codebook),
        code_tables=tables,
        framing=8 * len(payload) - item_bits * len(codebook) - streams - tables,
    )
    return EncodedTensor(SHARED, payload, account)


def _width(symbols: int) -> int:
    return max(symbols - 1, 0).bit_length()


def _little_endian(values: NDArray[np.unsignedinteger]) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()
