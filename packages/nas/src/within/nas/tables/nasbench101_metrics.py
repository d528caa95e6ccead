"""The message `ModelMetrics` of NAS-Bench-101: what one training of a network gave, in the wire format of protobuf.

ModelMetrics: 1 evaluations, 2 trainable parameters, 3 total time
evaluation: 1 epoch, 2 seconds of training, 3 training, 4 validation, 5 test accuracy
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

EVALUATIONS, PARAMETERS = 1, 2
EPOCH, SECONDS, TRAINING, VALIDATION, TEST = range(1, 6)
VARINT, EIGHT_BYTES, DELIMITED, FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True)
class Evaluation:
    """Accuracies from 0 to 1 after some epochs and seconds of training."""

    epoch: float = 0.0
    seconds: float = 0.0
    training: float = 0.0
    validation: float = 0.0
    test: float = 0.0


def read_metrics(message: bytes) -> tuple[int, tuple[Evaluation, ...]]:
    """Returns the number of parameters and the evaluations: before training, half-way, at its end.

    Raises:
        ValueError: when it is no such message.
    """
    parameters, evaluations = 0, []
    for number, value in _fields(message):
        if number == PARAMETERS and isinstance(value, int):
            parameters = value
        elif number == EVALUATIONS and isinstance(value, bytes):
            numbers = {each: part for each, part in _fields(value) if each <= TEST}
            parts = (numbers.get(each, bytes(8)) for each in (EPOCH, SECONDS, TRAINING, VALIDATION, TEST))
            evaluations.append(Evaluation(*(_double(part) for part in parts)))
    return parameters, tuple(evaluations)


def write_metrics(parameters: int, evaluations: tuple[Evaluation, ...]) -> bytes:
    """Returns the message."""
    found = b""
    for each in evaluations:
        numbers = (each.epoch, each.seconds, each.training, each.validation, each.test)
        part = b"".join(
            bytes([field << 3 | EIGHT_BYTES]) + struct.pack("<d", number) for field, number in enumerate(numbers, 1)
        )
        found += bytes([EVALUATIONS << 3 | DELIMITED]) + _varint(len(part)) + part
    return found + bytes([PARAMETERS << 3]) + _varint(parameters)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the number and the value of each field."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _number(message, at)
            yield key >> 3, value
            continue
        if kind == DELIMITED:
            length, at = _number(message, at)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + length > len(message):
            raise ValueError("the message ends within a field")
        yield key >> 3, message[at : at + length]
        at += length


def _number(message: bytes, at: int) -> tuple[int, int]:
    """Returns a number of seven bits a byte, and where it ends."""
    found = shift = 0
    while at < len(message):
        byte = message[at]
        found |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return found, at
    raise ValueError("the message ends within a number")


def _varint(number: int) -> bytes:
    found = []
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _double(value: int | bytes) -> float:
    if not isinstance(value, bytes) or len(value) != 8:
        raise ValueError("an accuracy or a time is no number of eight bytes")
    return float(struct.unpack("<d", value)[0])
