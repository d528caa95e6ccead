"""Latencies that were measured on devices: Once-for-All networks, HAT transformers, HAQ's table of bits.

Cai et al.: Once-for-All, ICLR 2020, measured by Lee et al.: HELP, NeurIPS 2021; Wang et al.: HAT, ACL 2020; Wang et
al.: HAQ, CVPR 2019.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from within.core.errors import WithinError
from within.nas.spaces import mobile_net
from within.nas.tables.columns import read_columns
from within.nas.tables.table import Table, read_parquet

MOBILE_NET_COLUMNS = (
    *(f"ks_{place}" for place in range(mobile_net.PLACES)),
    *(f"e_{place}" for place in range(mobile_net.PLACES)),
    *(f"d_{unit}" for unit in range(mobile_net.UNITS)),
    "resolution",
)
HAT_FEATURES = (
    "encoder_embed_dim",
    "encoder_layer_num",
    "encoder_ffn_embed_dim_avg",
    "encoder_self_attention_heads_avg",
    "decoder_embed_dim",
    "decoder_layer_num",
    "decoder_ffn_embed_dim_avg",
    "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg",
    "decoder_arbitrary_ende_attn_avg",
)


@dataclass(frozen=True, eq=False)
class HatLatency:
    """Latencies of transformers on one device; the table has the means over layers, not the architectures.

    Attributes:
        features: a row of `HAT_FEATURES` for each.
        encoder, decoder: mean latencies in ms.
        encoder_spread, decoder_spread: standard deviations in ms.
    """

    features: Float[np.ndarray, "networks 10"]
    encoder: Float[np.ndarray, " networks"]
    decoder: Float[np.ndarray, " networks"]
    encoder_spread: Float[np.ndarray, " networks"]
    decoder_spread: Float[np.ndarray, " networks"]

    @property
    def total(self) -> Float[np.ndarray, " networks"]:
        """Encoder and decoder together, in ms."""
        return self.encoder + self.decoder


@dataclass(frozen=True, eq=False)
class BitLatency:
    """Latency of each layer at each number of bits, in the unit of HAQ's simulator, for 16 pictures.

    Attributes:
        layers: at [layer, weight bits - 1, activation bits - 1].
    """

    layers: Float[np.ndarray, "layers weight_bits activation_bits"]

    def __call__(self, weight_bits: Sequence[int], activation_bits: Sequence[int]) -> float:
        """Returns the latency of the network.

        Raises:
            WithinError: when there is not one number of bits for each layer, or one is out of range.
        """
        weights, activations = np.asarray(weight_bits), np.asarray(activation_bits)
        count, *most = self.layers.shape
        for name, bits, limit in (("weight", weights, most[0]), ("activation", activations, most[1])):
            if bits.shape != (count,):
                raise WithinError(f"{bits.size} numbers of {name} bits for {count} layers")
            if bits.min() < 1 or bits.max() > limit:
                raise WithinError(f"{name} bits from {bits.min()} to {bits.max()}", todo=f"give 1 to {limit}")
        return float(self.layers[np.arange(count), weights - 1, activations - 1].sum(dtype=np.float64))


def read_mobile_net(path: str | Path) -> Table:
    """Returns networks of Once-for-All, and columns lat_<gpu>_<batch>: ms a batch.

    Raises:
        WithinError: when the file is missing or no table, columns are missing, or an architecture is unknown or occurs
            twice.
    """
    return read_parquet(path, mobile_net.SPACE, MOBILE_NET_COLUMNS, order="id", values=True)


def read_hat(path: str | Path, task_device: str) -> HatLatency:
    """Returns what was measured for a task on a device, such as wmt14ende_gpu_titanxp.

    Raises:
        WithinError: when the file is missing or no table, columns are missing, or there is no such task and device.
    """
    targets = ("latency_mean_encoder", "latency_mean_decoder", "latency_std_encoder", "latency_std_decoder")
    found = read_columns(path, (*HAT_FEATURES, "task_device", "row", *targets)).sort_by("row")
    names = found.column("task_device").to_numpy()
    if task_device not in names:
        raise WithinError(
            f"There is no task and device {task_device!r}",
            where=str(path),
            todo=f"choose one of {', '.join(sorted(set(names.tolist())))}",
        )
    chosen = names == task_device
    numbers = {name: found.column(name).to_numpy()[chosen].astype(np.float64) for name in (*HAT_FEATURES, *targets)}
    return HatLatency(np.stack([numbers[name] for name in HAT_FEATURES], axis=1), *(numbers[name] for name in targets))


def read_bits(path: str | Path) -> BitLatency:
    """Returns HAQ's table, a NumPy archive with one array, `latency`.

    Raises:
        WithinError: when the file is missing, no such archive, or a number is missing or negative.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            layers = np.asarray(archive["latency"], dtype=np.float64)
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise WithinError(f"The file is no table of latencies by bits: {error}", where=str(path)) from error
    if layers.ndim != 3 or not np.isfinite(layers).all() or (layers < 0).any():
        raise WithinError(
            f"Latencies of {layers.shape} are no table of layers, weight bits and activation bits", where=str(path)
        )
    return BitLatency(layers)
