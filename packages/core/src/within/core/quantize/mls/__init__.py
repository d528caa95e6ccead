"""Low-bit training in the MLS tensor format: weights, activations and errors of every product in a few bits.

K. Zhong, X. Ning, G. Dai, Z. Zhu, T. Zhao, S. Zeng, Y. Wang, H. Yang, Exploring the Potential of Low-bit Training of
Convolutional Neural Networks, IEEE TCAD 2022 (arXiv 2006.02804).
"""

from within.core.quantize.mls.format import MlsFormat, MlsTensor, encode, quantise
from within.core.quantize.mls.layers import MlsSettings, low_bit_layers, restore, to_low_bit

__all__ = [
    "MlsFormat",
    "MlsSettings",
    "MlsTensor",
    "encode",
    "low_bit_layers",
    "quantise",
    "restore",
    "to_low_bit",
]
