"""Accounting: the paper's formula, and parts that are what they are called."""

from __future__ import annotations

import pytest
import torch

from within.core.packing import PackSettings, pack, published_rate
from within.core.packing.huffman import entropy


def test_published_rate_of_a_synthetic_layer():
    """Catches another formula: 8 % of 300 x 784 in codes of 6 and gaps of 5 bits is 1 / (0.08 * 11 / 32) = 36."""
    elements = 300 * 784
    without_codebook = 1 / (0.08 * 11 / 32)
    assert without_codebook == pytest.approx(36.36, abs=0.01)
    rate = published_rate(elements, 0.08 * elements, 64, 5)
    assert rate == pytest.approx(elements * 32 / (0.08 * elements * 11 + 64 * 32))
    assert rate == pytest.approx(without_codebook, rel=0.02)


def test_file_of_the_synthetic_layer_has_the_rate_of_the_formula(tmp_path):
    """Catches a file that stores more than the formula counts: uniform codes, gaps of five bits, no Huffman coding."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.zeros(300 * 784)
    kept = torch.randperm(len(weight), generator=generator)[: round(0.08 * len(weight))]
    weight[kept] = torch.arange(1, 65)[torch.randint(64, kept.shape, generator=generator)] / 64
    weight = weight.reshape(300, 784)
    fixed = pack({"w": weight}, tmp_path / "fixed", PackSettings(gap_bits=5, huffman=False)).account
    (share,) = fixed.tensors
    assert (share.nonzeros, share.elements) == (len(kept), 300 * 784)
    assert share.padding_entries > 0
    entries = share.nonzeros + share.padding_entries
    # Padding needs a 65th value, and so a seventh bit: Huffman coding is what makes it nearly free.
    assert share.weights + share.indices + share.padding == entries * (7 + 5)
    assert fixed.rate == pytest.approx(300 * 784 * 32 / (entries * 12 + 65 * 32), rel=2e-3)
    coded = pack({"w": weight}, tmp_path / "coded", PackSettings(gap_bits=5)).account
    (share,) = coded.tensors
    assert share.weights / share.nonzeros == pytest.approx(6, abs=0.2)
    assert coded.rate > fixed.rate
    assert pack({"w": weight}, tmp_path / "best").account.rate >= coded.rate


def test_streams_are_as_long_as_their_entropy_says(tmp_path):
    """Catches an account that counts a stream in the wrong part."""
    generator = torch.Generator().manual_seed(1)
    weight = (torch.randn(200, 300, generator=generator) * 2).round() * (
        torch.rand(200, 300, generator=generator) < 0.1
    )
    (share,) = pack({"w": weight}, tmp_path / "packed").account.tensors
    _, counts = weight[weight != 0].unique(return_counts=True)
    bits = entropy(counts.numpy())
    assert bits <= share.weights / share.nonzeros < bits + 0.1
    assert share.codebooks == 32 * share.clusters
    assert share.padding == 0
    assert share.dense == 0
