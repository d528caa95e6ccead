"""Latencies of devices: published sums of HAQ's table, and HAT's measurements."""

from __future__ import annotations

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from within.core.errors import WithinError
from within.nas.tables.device_latency import HAT_FEATURES, read_bits, read_hat, read_mobile_net

HAT_TARGETS = ("latency_mean_encoder", "latency_mean_decoder", "latency_std_encoder", "latency_std_decoder")


def test_published_sums_of_bits(data):
    latency = read_bits(data("nas") / "haq_mobilenetv2_latency_lut.npz")
    assert latency.layers.shape == (53, 8, 8)
    assert latency([8] * 53, [8] * 53) == 39_624_933
    assert latency.layers[0, 7, 7] == 1_620_752
    assert 0.6 * latency([8] * 53, [8] * 53) == pytest.approx(23_774_959.8)


def test_latency_of_a_network_is_the_sum_over_its_layers(tmp_path):
    layers = np.arange(3 * 4 * 2, dtype=np.float32).reshape(3, 4, 2)
    np.savez(tmp_path / "a.npz", latency=layers)
    latency = read_bits(tmp_path / "a.npz")
    assert latency([1, 4, 2], [2, 1, 2]) == layers[0, 0, 1] + layers[1, 3, 0] + layers[2, 1, 1]
    with pytest.raises(WithinError, match="2 numbers of weight bits for 3 layers"):
        latency([1, 2], [1, 1, 1])
    with pytest.raises(WithinError, match="activation bits from 1 to 3"):
        latency([1, 2, 4], [1, 2, 3])
    with pytest.raises(WithinError, match="weight bits from 0"):
        latency([0, 2, 4], [1, 2, 2])


@pytest.mark.parametrize("layers", [np.ones((3, 4)), np.full((2, 2, 2), np.nan), -np.ones((2, 2, 2))])
def test_what_is_no_table_of_bits(tmp_path, layers):
    with pytest.raises(WithinError, match="no table of latencies by bits"):
        read_bits(tmp_path / "missing.npz")
    np.save(tmp_path / "a.npy", layers)
    with pytest.raises(WithinError, match="no table of latencies by bits"):
        read_bits(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", latency=layers)
    with pytest.raises(WithinError, match="no table of layers"):
        read_bits(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    with pytest.raises(WithinError, match="no table of latencies by bits"):
        read_bits(tmp_path / "a.npz")


def test_transformers_on_devices(data):
    """Deeper decoders take longer on every device; the encoder has six layers in all of them."""
    path = data("nas") / "hat_latency.parquet"
    pairs = sorted(set(pyarrow.parquet.read_table(path).column("task_device").to_pylist()))
    assert len(pairs) == 8
    rows = 0
    for pair in pairs:
        found = read_hat(path, pair)
        rows += len(found.features)
        assert found.features.shape[1] == 10
        depth = found.features[:, HAT_FEATURES.index("decoder_layer_num")]
        assert np.corrcoef(depth, found.decoder)[0, 1] > 0.8
        assert (found.features[:, HAT_FEATURES.index("encoder_layer_num")] == 6).all()
        assert (found.total > found.decoder).all()
    assert rows == 12_800


def test_rows_of_one_device_in_order(tmp_path):
    columns = {name: np.arange(4.0) + at for at, name in enumerate((*HAT_FEATURES, *HAT_TARGETS))}
    columns |= {"row": np.array([1, 0, 0, 1]), "task_device": ["a", "a", "b", "b"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    found = read_hat(tmp_path / "a.parquet", "a")
    assert found.features[:, 0].tolist() == [1, 0]
    assert found.features[0].tolist() == list(range(1, 11))
    assert (found.encoder[0], found.decoder[0], found.encoder_spread[0], found.decoder_spread[0]) == (11, 12, 13, 14)
    with pytest.raises(WithinError, match="choose one of a, b"):
        read_hat(tmp_path / "a.parquet", "c")
    del columns["latency_std_decoder"]
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(WithinError, match="Columns are missing: latency_std_decoder"):
        read_hat(tmp_path / "a.parquet", "a")
    with pytest.raises(WithinError, match="Columns are missing: ks_0"):
        read_mobile_net(tmp_path / "a.parquet")
