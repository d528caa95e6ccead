"""The packed file: magic, version, header with the tensors' names and shapes, one section a tensor, checksums.

    magic           8 bytes, as PNG's: they show a file that was sent as text
    version         2 bytes, little-endian
    header length   4 bytes, little-endian
    header          number of tensors; for each: length of its name, name in UTF-8, type (1 byte), number of axes, their
                    sizes, encoding (1 byte), bytes of its payload or, for an alias, the number of the tensor it is
    checksum        CRC-32 of everything before, 4 bytes, little-endian
    sections        for each tensor that is no alias: payload, CRC-32 of the payload

Numbers without a stated width are LEB128. All checksums are verified before anything is decoded.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.packing.accounting import Account, TensorAccount
from within.core.packing.byte_reader import ByteReader, write_number
from within.core.packing.tensor_encoding import ALIAS, ENCODINGS, EncodedTensor, decode_tensor, encode_tensor

MAGIC, VERSION = b"\x8fWITHN\r\n", 1
PREFIX_BYTES, CHECKSUM_BYTES = len(MAGIC) + 2 + 4, 4
# The type, its code in the file, and integers of the same width as its bit patterns.
TYPES: tuple[tuple[torch.dtype, torch.dtype, type[np.unsignedinteger]], ...] = (
    (torch.float32, torch.int32, np.uint32),
    (torch.float16, torch.int16, np.uint16),
    (torch.bfloat16, torch.int16, np.uint16),
    (torch.float64, torch.int64, np.uint64),
    (torch.int64, torch.int64, np.uint64),
    (torch.int32, torch.int32, np.uint32),
    (torch.int16, torch.int16, np.uint16),
    (torch.int8, torch.uint8, np.uint8),
    (torch.uint8, torch.uint8, np.uint8),
    (torch.bool, torch.uint8, np.uint8),
)


@dataclass(frozen=True)
class _Entry:
    name: str
    type_code: int
    shape: tuple[int, ...]
    encoding: int
    number: int  # bytes of the payload, or the tensor that an alias is

    def header(self) -> bytes:
        name = self.name.encode()
        sizes = b"".join(write_number(size) for size in self.shape)
        fields = write_number(len(name)) + name + bytes([self.type_code]) + write_number(len(self.shape)) + sizes
        return fields + bytes([self.encoding]) + write_number(self.number)


def write_packed(
    state: Mapping[str, Tensor],
    path: str | Path,
    *,
    gap_bits: Mapping[str, int] | int | None = None,
    huffman: bool = True,
) -> Account:
    """Writes a state dict; tensors that are one in memory are stored once.

    Arguments:
        state: tensors by name.
        path: the file; it is whole or, after an error, as it was before.
        gap_bits: bits of a gap, for all or by name; None takes the best for each tensor.
        huffman: False leaves streams of fixed width, the format before the paper's last stage.

    Raises:
        WithinError: for values that are no tensors, types that the format lacks, and files that cannot be written.
    """
    entries: list[_Entry] = []
    encoded: list[EncodedTensor] = []
    accounts: list[TensorAccount] = []
    stored: dict[tuple[object, ...], int] = {}
    for index, (name, tensor) in enumerate(state.items()):
        type_code = _type_code(name, tensor)
        key = storage_key(tensor)
        if tensor.numel() and key in stored and entries[stored[key]].type_code == type_code:
            entries.append(_Entry(name, type_code, tuple(tensor.shape), ALIAS, stored[key]))
            accounts.append(TensorAccount(name, ENCODINGS[ALIAS], tensor.numel(), 0))
            continue
        stored[key] = index
        bits = gap_bits.get(name) if isinstance(gap_bits, Mapping) else gap_bits
        each = encode_tensor(name, _bit_patterns(tensor, type_code), gap_bits=bits, huffman=huffman)
        encoded.append(each)
        entries.append(_Entry(name, type_code, tuple(tensor.shape), each.encoding, len(each.payload)))
        accounts.append(replace(each.account, framing=each.account.framing + 8 * CHECKSUM_BYTES))
    header = write_number(len(entries)) + b"".join(entry.header() for entry in entries)
    front = MAGIC + VERSION.to_bytes(2, "little") + len(header).to_bytes(4, "little") + header
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(front + _checksum(front))
        for each in encoded:
            file.write(each.payload + _checksum(each.payload))
    return Account(tuple(accounts), 8 * (len(front) + CHECKSUM_BYTES))


def read_packed(path: str | Path) -> dict[str, Tensor]:
    """Reads a state dict; every bit is as it was written.

    Raises:
        WithinError: when the file cannot be read, is no packed file, is truncated, altered or of a later version.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WithinError(f"Could not read the file: {error.strerror or error}", where=str(path)) from error
    try:
        return _read(data)
    except WithinError as error:
        raise WithinError(error.what, where=str(path), todo=error.todo or "get a sound copy of the file") from error
    except (MemoryError, ValueError, OverflowError) as error:  # sizes that no tensor has
        raise WithinError(f"The packed file announces what cannot be: {error}", where=str(path)) from error


def storage_key(tensor: Tensor) -> tuple[object, ...]:
    """Returns what two names of one tensor have in common; views of other parts or types of its storage are others."""
    place = tensor.data_ptr() if tensor.numel() else id(tensor)  # without elements there is no memory to share
    return place, tensor.dtype, tuple(tensor.shape), tuple(tensor.stride())


def _read(data: bytes) -> dict[str, Tensor]:
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise WithinError("This is no packed file: it does not start with the bytes of one")
    if len(data) < PREFIX_BYTES:
        raise _truncated()
    version = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 2], "little")
    if version != VERSION:
        raise WithinError(f"The packed file has the version {version}, this program reads version {VERSION}")
    front = PREFIX_BYTES + int.from_bytes(data[len(MAGIC) + 2 : PREFIX_BYTES], "little")
    if len(data) < front + CHECKSUM_BYTES:
        raise _truncated()
    if _checksum(data[:front]) != data[front : front + CHECKSUM_BYTES]:
        raise WithinError("The header of the packed file was altered: its checksum differs")
    entries = _entries(data[PREFIX_BYTES:front])
    sections = _sections(data, front + CHECKSUM_BYTES, entries)
    state: dict[str, Tensor] = {}
    for entry, section in zip(entries, sections):
        if entry.encoding == ALIAS:
            state[entry.name] = state[entries[entry.number].name]
            continue
        try:
            state[entry.name] = _tensor(entry, section)
        except WithinError as error:
            raise WithinError(f"The packed tensor {entry.name} is inconsistent: {error.what}") from error
    return state


def _sections(data: bytes, position: int, entries: list[_Entry]) -> list[bytes]:
    """Returns the payload of every tensor, verified; empty for an alias."""
    sections = []
    for entry in entries:
        if entry.encoding == ALIAS:
            sections.append(b"")
            continue
        end = position + entry.number
        if len(data) < end + CHECKSUM_BYTES:
            raise _truncated()
        payload = data[position:end]
        position = end + CHECKSUM_BYTES
        if _checksum(payload) != data[end:position]:
            raise WithinError(f"The packed tensor {entry.name} was altered: its checksum differs")
        sections.append(payload)
    if position != len(data):
        raise WithinError(f"{len(data) - position} bytes follow the end of the packed file")
    return sections


def _entries(header: bytes) -> list[_Entry]:
    reader = ByteReader(header)
    entries: list[_Entry] = []
    for index in range(reader.number()):
        name = reader.take(reader.number()).decode()
        type_code = reader.take(1)[0]
        shape = tuple(reader.number() for _ in range(reader.number()))
        entry = _Entry(name, type_code, shape, reader.take(1)[0], reader.number())
        if type_code >= len(TYPES) or entry.encoding >= len(ENCODINGS):
            raise WithinError(f"The packed tensor {name} is of an unknown type or encoding")
        if entry.encoding == ALIAS and not entry.number < index:
            raise WithinError(f"The packed tensor {name} is another name of a tensor that comes later")
        entries.append(entry)
    reader.finish()
    if len({entry.name for entry in entries}) != len(entries):
        raise WithinError("Two packed tensors have the same name")
    return entries


def _tensor(entry: _Entry, payload: bytes) -> Tensor:
    dtype, same_width, unsigned = TYPES[entry.type_code]
    patterns = decode_tensor(entry.encoding, payload, prod(entry.shape), np.dtype(unsigned))
    signed = torch.from_numpy(patterns.view(f"i{patterns.itemsize}" if same_width != torch.uint8 else "u1"))
    return signed.view(dtype).reshape(entry.shape)


def _bit_patterns(tensor: Tensor, type_code: int) -> np.ndarray:
    _, same_width, unsigned = TYPES[type_code]
    return tensor.detach().cpu().contiguous().reshape(-1).view(same_width).numpy().view(unsigned)


def _type_code(name: str, tensor: Tensor) -> int:
    if not isinstance(tensor, Tensor):
        raise WithinError(f"{name} is a {type(tensor).__name__}, no tensor", where="state dict")
    codes = [code for code, (dtype, *_) in enumerate(TYPES) if dtype == tensor.dtype]
    if not codes or tensor.layout != torch.strided:
        raise WithinError(f"{name} is a {tensor.layout} tensor of {tensor.dtype}, which the packed file cannot hold")
    return codes[0]


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "little")


def _truncated() -> WithinError:
    return WithinError("The packed file is truncated")
