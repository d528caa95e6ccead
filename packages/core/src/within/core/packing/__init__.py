"""Compressed storage: shared weights, relative indices, Huffman codes, one documented and verified file."""

from within.core.packing.accounting import Account, TensorAccount, published_rate
from within.core.packing.pack import PackResult, PackSettings, pack, unpack
from within.core.packing.weight_sharing import SharedWeight, share_weights

__all__ = [
    "Account",
    "PackResult",
    "PackSettings",
    "SharedWeight",
    "TensorAccount",
    "pack",
    "published_rate",
    "share_weights",
    "unpack",
]
