"""Bytes read from the front, and whole numbers as little-endian groups of seven bits (LEB128)."""

from __future__ import annotations

from within.core.errors import WithinError


def write_number(value: int) -> bytes:
    """Returns a number >= 0, seven bits a byte from the lowest; the top bit says that more follow."""
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


class ByteReader:
    """Reads from the front of `data`; never beyond its end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, count: int) -> bytes:
        """Returns the next `count` bytes.

        Raises:
            WithinError: when there are fewer.
        """
        if count > len(self.data) - self.position:
            raise WithinError(f"{count} bytes are announced, {len(self.data) - self.position} are left")
        self.position += count
        return self.data[self.position - count : self.position]

    def number(self) -> int:
        """Returns the next number that `write_number` wrote.

        Raises:
            WithinError: when it is cut off or has more than 63 bits.
        """
        value = 0
        for shift in range(0, 63, 7):
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise WithinError("A number has more than 63 bits")

    def finish(self) -> None:
        """Checks that nothing is left.

        Raises:
            WithinError: when something is.
        """
        if self.position != len(self.data):
            raise WithinError(f"{len(self.data) - self.position} bytes are left over")
