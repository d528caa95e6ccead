"""Huffman codes: optimal within the bounds of the theorem, canonical, read back as written, safe on foreign bytes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.packing.bit_stream import read_bits, write_bits
from within.core.packing.huffman import (
    canonical_codes,
    code_lengths,
    decode,
    encode,
    encoded_bits,
    entropy,
    is_complete,
)

counts = st.lists(st.one_of(st.just(0), st.integers(1, 10**6)), min_size=1, max_size=300).map(np.array)


@given(counts.filter(lambda each: each.any()))
def test_mean_length_is_within_one_bit_of_the_entropy(count):
    """Catches a tree that merges anything but the two rarest: H <= L < H + 1."""
    lengths = code_lengths(count)
    mean = encoded_bits(count, lengths) / count.sum()
    assert entropy(count) - 1e-9 <= mean < entropy(count) + 1


@given(counts.filter(lambda each: np.count_nonzero(each) > 1))
def test_code_is_complete_and_free_of_prefixes(count):
    """Catches two codes that begin alike, and bits that no code begins with."""
    lengths = code_lengths(count)
    assert is_complete(lengths)
    assert ((lengths > 0) == (count > 0)).all()
    codes = canonical_codes(lengths)
    texts = sorted(f"{int(codes[s]):0{lengths[s]}b}" for s in np.flatnonzero(lengths))
    assert not any(later.startswith(earlier) for earlier, later in pairwise(texts))


def test_mean_length_of_a_case_solved_by_hand():
    """Catches depths that are off by one: 5, 2, 1, 1 gives codes of 1, 2, 3, 3 bits: 0, 10, 110, 111."""
    lengths = code_lengths(np.array([5, 0, 2, 1, 1]))
    assert lengths.tolist() == [1, 0, 2, 3, 3]
    assert canonical_codes(lengths).tolist() == [0, 0, 0b10, 0b110, 0b111]
    assert encode(np.array([0, 2, 3, 4, 0]), lengths) == bytes([0b01011011, 0b10000000])


def test_long_codes_of_fibonacci_counts_are_read():
    """Catches windows too short for the longest code: these counts make a tree that is one long branch."""
    count = [1, 1]
    while len(count) < 40:
        count.append(count[-1] + count[-2])
    lengths = code_lengths(np.array(count))
    assert lengths.max() == 39
    symbols = np.concatenate([np.arange(40), np.arange(40)[::-1], np.zeros(3, dtype=np.int64)])
    assert decode(encode(symbols, lengths), lengths, len(symbols)).tolist() == symbols.tolist()


@given(st.lists(st.integers(0, 60), min_size=2, max_size=3000).filter(lambda each: len(set(each)) > 1))
def test_streams_are_read_as_they_were_written(symbols):
    """Catches a code or a boundary between bytes that is read wrongly."""
    symbols = np.array(symbols)
    count = np.bincount(symbols)
    lengths = code_lengths(count)
    data = encode(symbols, lengths)
    assert len(data) == -(-encoded_bits(count, lengths) // 8)
    assert (decode(data, lengths, len(symbols)) == symbols).all()


def test_streams_longer_than_a_chunk_are_read(monkeypatch):
    """Catches a code that begins in one chunk of the stream and ends in the next."""
    symbols = np.random.default_rng(0).geometric(0.2, 5000)
    lengths = code_lengths(np.bincount(symbols))
    data = encode(symbols, lengths)
    for chunk in (1, 2, 7, 64):
        monkeypatch.setattr("within.core.packing.huffman.CHUNK", chunk)
        assert (decode(data, lengths, len(symbols)) == symbols).all()


@given(st.binary(max_size=40), st.integers(0, 60))
def test_foreign_bytes_are_an_error_or_symbols(data, count):
    """Catches a reader that runs beyond the stream or returns another number of symbols."""
    lengths = np.array([1, 2, 3, 0, 3])
    try:
        symbols = decode(data, lengths, count)
    except WithinError:
        return
    assert len(symbols) == count
    assert encode(symbols, lengths) == data


@given(st.lists(st.tuples(st.integers(0, 2**57 - 1), st.integers(0, 57)), max_size=200))
def test_bits_of_any_width_are_written_from_the_most_significant(pairs):
    """Catches bits that spill into the neighbour's."""
    values = np.array([value & (1 << width) - 1 for value, width in pairs], dtype=np.uint64)
    widths = np.array([width for _, width in pairs], dtype=np.int64)
    text = "".join(f"{int(value):0{width}b}" if width else "" for value, width in zip(values, widths))
    data = write_bits(values, widths)
    assert "".join(f"{byte:08b}" for byte in data).rstrip("0") == text.rstrip("0")
    assert len(data) == -(-len(text) // 8)


def test_bits_of_fixed_width_are_read_back(monkeypatch):
    """Catches a boundary between chunks that loses bits, and filling that is not checked."""
    monkeypatch.setattr("within.core.packing.bit_stream.CHUNK", 3)
    values = np.arange(32)
    assert read_bits(write_bits(values, 5), 5, 32).tolist() == values.tolist()
    with pytest.raises(WithinError, match="filling"):
        read_bits(b"\x01", 5, 1)
    with pytest.raises(WithinError, match="bytes"):
        read_bits(b"\x00\x00", 5, 1)
