"""Files of TFRecords, read and written without TensorFlow.

    record: length (8 bytes), checksum of the length (4), data, checksum of the data (4); little-endian
    checksum: the CRC-32C c, rotated right by 15 bits, plus 0xa282ead8

Checksums of many records are computed together, byte by byte of all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt32
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.core.files import atomic_write

POLYNOMIAL, MASK = 0x82F63B78, 0xA282EAD8
BATCH = 4096


def read_records(path: str | Path) -> Iterator[bytes]:
    """Yields the data of each record.

    Raises:
        WithinError: when the file is missing or empty, ends within a record, or a checksum is wrong.
    """
    if not Path(path).is_file():
        raise WithinError("The file is not there", where=str(path))
    with open(path, "rb") as file:
        count = 0
        while records := list(_batch(file, count, str(path))):
            found = masked_checksums([data for data, _ in records])
            wrong = np.flatnonzero(found != np.array([checksum for _, checksum in records], np.uint32))
            if len(wrong):
                raise _damaged(f"The checksum of record {count + wrong[0]} is wrong", str(path))
            yield from (data for data, _ in records)
            count += len(records)
    if not count:
        raise _damaged("The file is empty", str(path))


def write_records(path: str | Path, records: Iterable[bytes]) -> None:
    """Writes records to a file, which is whole or absent."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        for data in records:
            length = struct.pack("<Q", len(data))
            of_length, of_data = masked_checksums([length, data]).tolist()
            file.write(length + struct.pack("<I", of_length) + data + struct.pack("<I", of_data))


def masked_checksums(records: Sequence[bytes]) -> UInt32[np.ndarray, " records"]:
    """Returns the checksum of each, as it stands in the file."""
    found = crc32c(records)
    return ((found >> np.uint32(15)) | (found << np.uint32(17))) + np.uint32(MASK)


def crc32c(records: Sequence[bytes]) -> UInt32[np.ndarray, " records"]:
    """Returns the CRC-32C of each."""
    lengths = np.array([len(data) for data in records])
    order = np.argsort(-lengths, kind="stable")
    longest = int(lengths.max(initial=0))
    letters = np.zeros((longest, len(records)), np.uint8)
    for column, row in enumerate(order):
        letters[: lengths[row], column] = np.frombuffer(records[row], np.uint8)
    states = np.full(len(records), 0xFFFFFFFF, np.uint32)
    left = np.searchsorted(-lengths[order], -np.arange(longest))  # records longer than each position
    for position, count in enumerate(left.tolist()):
        state = states[:count]
        states[:count] = _TABLE[(state ^ letters[position, :count]) & 0xFF] ^ (state >> np.uint32(8))
    found = np.empty_like(states)
    found[order] = ~states
    return found


def _batch(file: BinaryIO, first: int, where: str) -> Iterator[tuple[bytes, int]]:
    """Yields data and checksum of the next records, their lengths being right."""
    for number in range(first, first + BATCH):
        head = file.read(12)
        if not head:
            return
        if len(head) == 12 and _masked(head[:8]) != struct.unpack("<I", head[8:])[0]:
            raise _damaged(f"The length of record {number} has a wrong checksum, or the file holds no records", where)
        length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
        body = file.read(length + 4)
        if len(head) < 12 or len(body) < length + 4:
            raise _damaged(f"The file ends within record {number}", where)
        yield body[:length], struct.unpack("<I", body[length:])[0]


def _masked(data: bytes) -> int:
    state = 0xFFFFFFFF
    for letter in data:
        state = _ENTRIES[(state ^ letter) & 0xFF] ^ (state >> 8)
    state ^= 0xFFFFFFFF
    return ((state >> 15 | state << 17) + MASK) & 0xFFFFFFFF


def _damaged(what: str, where: str) -> WithinError:
    return WithinError(what, where=where, todo="get the file again; it is damaged or was cut off")


def _entry(letter: int) -> int:
    for _ in range(8):
        letter = letter >> 1 ^ (POLYNOMIAL if letter & 1 else 0)
    return letter


_ENTRIES = [_entry(letter) for letter in range(256)]
_TABLE: NDArray[np.uint32] = np.array(_ENTRIES, np.uint32)
