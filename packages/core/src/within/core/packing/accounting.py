"""Where every bit of a packed file goes, and the compression rate that follows.

Rate = bytes of the dense tensors / bytes of the file: indices, padding zeros, codebooks, code tables, biases, names,
shapes and checksums are all in the file and all counted. `published_rate` is the formula of the paper, which knows
neither code tables nor headers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

PARTS = ("weights", "indices", "padding", "codebooks", "code_tables", "dense", "framing")


@dataclass(frozen=True)
class TensorAccount:
    """One tensor's share of a file; all but the first seven are in bits.

    Attributes:
        name: in the state dict.
        encoding: how it is stored.
        elements: of the tensor.
        dense_bytes: of the tensor as it was; 0 for another name of a tensor that is stored already.
        nonzeros: entries stored, without padding.
        padding_entries: zeros inserted where a gap was too large for its bits.
        clusters: values in the codebook; 0 without one.
        weights: codes of the nonzeros, or their values where there is no codebook.
        indices: gaps of the nonzeros.
        padding: codes and gaps of the padding entries.
        codebooks: values of the centroids.
        code_tables: lengths of the Huffman codes.
        dense: values that are stored as they are: biases, running statistics.
        framing: lengths, filling up to whole bytes and the checksum.
    """

    name: str
    encoding: str
    elements: int
    dense_bytes: int
    nonzeros: int = 0
    padding_entries: int = 0
    clusters: int = 0
    weights: int = 0
    indices: int = 0
    padding: int = 0
    codebooks: int = 0
    code_tables: int = 0
    dense: int = 0
    framing: int = 0

    @property
    def bits(self) -> int:
        """All bits of this tensor."""
        return sum(getattr(self, part) for part in PARTS)


@dataclass(frozen=True)
class Account:
    """All bits of a file.

    Attributes:
        tensors: one account each.
        header_bits: magic, version, names, shapes and the header's checksum.
    """

    tensors: Sequence[TensorAccount]
    header_bits: int

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return (self.header_bits + sum(tensor.bits for tensor in self.tensors)) // 8

    @property
    def dense_bytes(self) -> int:
        """Size of all tensors as they were; four bytes an element for single precision."""
        return sum(tensor.dense_bytes for tensor in self.tensors)

    @property
    def rate(self) -> float:
        """Dense bytes / bytes of the file."""
        return self.dense_bytes / self.file_bytes

    @property
    def parts(self) -> dict[str, float]:
        """Bytes by what they are for; they sum to the size of the file."""
        sums = {part: sum(getattr(tensor, part) for tensor in self.tensors) / 8 for part in PARTS}
        return {**sums, "header": self.header_bits / 8}

    def as_record(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        totals = {"file_bytes": self.file_bytes, "dense_bytes": self.dense_bytes, "rate": self.rate}
        return {**totals, "parts": self.parts, "tensors": [asdict(tensor) for tensor in self.tensors]}


def published_rate(elements: int, entries: float, clusters: int, gap_bits: int, *, dense_bits: int = 32) -> float:
    """Returns the rate of a layer before Huffman coding:

        r = n b / (n' log2 k + n' b_gap + k b)          (section 3, with the gaps of section 2)

    Arguments:
        elements: n.
        entries: n', nonzeros and padding.
        clusters: k.
        gap_bits: b_gap.
        dense_bits: b.
    """
    return elements * dense_bits / (entries * (math.log2(clusters) + gap_bits) + clusters * dense_bits)
