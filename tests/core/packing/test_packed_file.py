"""The packed file: bit-exact for any state dict, an error for any altered byte or cut, nothing half read."""

from __future__ import annotations

import zlib

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.packing.tensors import same_bits, sparse_tensors
from torch import nn

from within.core.errors import WithinError
from within.core.packing.packed_file import MAGIC, PREFIX_BYTES, read_packed, write_packed

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(30, 40, generator=generator) * 4).round() / 4
    raw = torch.randn(20, 20, generator=generator)
    return {
        "body.weight": weight * (torch.rand(30, 40, generator=generator) < 0.1),
        "raw.weight": raw * (torch.rand(20, 20, generator=generator) < 0.1),
        "body.bias": torch.randn(10, generator=generator),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False, True]),
    }


@in_one_folder
@given(
    st.lists(sparse_tensors(), max_size=4),
    st.sampled_from([None, 1, 3, 8, 16]),
    st.booleans(),
)
def test_every_bit_comes_back(tmp_path, tensors, gap_bits, huffman):
    """Catches any loss: empty, all zero, one value, huge gaps, every type; and bytes that the account forgets."""
    original = {f"layer.{number}": tensor for number, tensor in enumerate(tensors)}
    account = write_packed(original, tmp_path / "packed", gap_bits=gap_bits, huffman=huffman)
    found = read_packed(tmp_path / "packed")
    assert list(found) == list(original)
    assert all(same_bits(found[name], original[name]) for name in original)
    assert account.file_bytes == (tmp_path / "packed").stat().st_size
    assert sum(account.parts.values()) == account.file_bytes
    assert account.dense_bytes == sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    for tensor, share in zip(tensors, account.tensors):
        if share.encoding != "dense":
            assert share.nonzeros == int(((tensor != 0) | tensor.signbit()).sum())


def test_values_that_are_easily_lost_come_back(tmp_path):
    """Catches negative zeros, NaN payloads, denormal numbers and infinities that pass through arithmetic."""
    patterns = torch.tensor([0, -(2**31), 1, 2143289345, 2139095040, -8388608, 0, 0], dtype=torch.int32)
    original = {
        "float": patterns.view(torch.float32),
        "integer": torch.tensor([-(2**63), 2**63 - 1, 0, -1]),
        "bytes": torch.arange(-128, 128).to(torch.int8),
        "transposed": torch.randn(5, 7).T,
        "scalar": torch.tensor(-0.0),
    }
    write_packed(original, tmp_path / "packed")
    found = read_packed(tmp_path / "packed")
    assert all(same_bits(found[name], original[name]) for name in original)
    found["float"].add_(1)  # and they can be written to


@pytest.mark.parametrize("gap_bits", [2, 5, 8, None])
def test_runs_of_zeros_longer_than_any_gap(tmp_path, gap_bits):
    """Catches padding zeros that are read as weights, with and without a codebook."""
    shared, raw = torch.zeros(300_000), torch.zeros(300_000)
    places = torch.tensor([0, 1, 99_999, 100_000, 299_998])
    shared[places] = 0.5
    raw[places] = torch.tensor([1.1, 2.2, 3.3, 4.4, 5.5])
    account = write_packed({"shared": shared, "raw": raw}, tmp_path / "packed", gap_bits=gap_bits)
    found = read_packed(tmp_path / "packed")
    assert torch.equal(found["shared"], shared)
    assert torch.equal(found["raw"], raw)
    if gap_bits == 8:
        assert [share.padding_entries for share in account.tensors] == [99_997 // 256 + 199_997 // 256] * 2
        assert all(share.padding > 0 for share in account.tensors)


def test_tied_weights_are_stored_once(tmp_path):
    """Catches a tied tensor that is stored twice, or that comes back as two."""
    model = nn.ModuleDict({"first": nn.Linear(20, 20, bias=False), "second": nn.Linear(20, 20, bias=False)})
    model["second"].weight = model["first"].weight
    account = write_packed(model.state_dict(), tmp_path / "packed")
    found = read_packed(tmp_path / "packed")
    assert found["first.weight"] is found["second.weight"]
    assert account.dense_bytes == 1600
    assert account.file_bytes < 1700


def test_any_altered_byte_is_an_error(tmp_path):
    """Catches a byte that no checksum covers: every single one is changed in turn, in several ways."""
    write_packed(state(), tmp_path / "packed")
    data = (tmp_path / "packed").read_bytes()
    for position in range(len(data)):
        for change in (1, 128, 255):
            altered = bytearray(data)
            altered[position] ^= change
            (tmp_path / "altered").write_bytes(altered)
            with pytest.raises(WithinError):
                read_packed(tmp_path / "altered")


def test_any_cut_and_any_addition_is_an_error(tmp_path):
    """Catches a file whose end is not noticed, wherever it is cut."""
    write_packed(state(), tmp_path / "packed")
    data = (tmp_path / "packed").read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(WithinError):
            read_packed(tmp_path / "cut")
    (tmp_path / "longer").write_bytes(data + b"\0")
    with pytest.raises(WithinError, match="follow the end"):
        read_packed(tmp_path / "longer")


@in_one_folder
@given(st.data())
def test_forged_checksums_are_no_way_in(tmp_path, data):
    """Catches a reader that trusts sizes: with the checksums made to fit, it still ends in an error or in tensors."""
    write_packed(state(), tmp_path / "packed")
    sound = bytearray((tmp_path / "packed").read_bytes())
    length = PREFIX_BYTES + int.from_bytes(sound[len(MAGIC) + 2 : PREFIX_BYTES], "little")
    if data.draw(st.booleans()):
        place = data.draw(st.integers(PREFIX_BYTES, length - 1))
        sound[place] = data.draw(st.integers(0, 255))
        sound[length : length + 4] = zlib.crc32(sound[:length]).to_bytes(4, "little")
    else:
        payload = sound[length + 4 :]
        size = int(data.draw(st.sampled_from([1, 2, 3, 8, 20])))
        payload[size - 1] = data.draw(st.integers(0, 255))
        end = next(
            n for n in range(4, len(payload)) if zlib.crc32(sound[length + 4 :][:n]) == _word(sound, length + 4 + n)
        )
        payload[end : end + 4] = zlib.crc32(payload[:end]).to_bytes(4, "little")
        sound[length + 4 :] = payload
    (tmp_path / "forged").write_bytes(sound)
    try:
        found = read_packed(tmp_path / "forged")
    except WithinError:
        return
    assert len(found) == 5


def _word(data: bytearray, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "little")


def test_the_format_does_not_change(tmp_path):
    """Catches a change of the format without a new version: these bytes were written by version 1."""
    weight = torch.zeros(4, 8)
    weight[0, 1], weight[0, 4], weight[1, 7], weight[3, 3] = 0.5, -1.0, 0.5, 0.5
    golden = {"w": weight, "b": torch.tensor([1.0, 2.0])}
    write_packed(golden, tmp_path / "packed", gap_bits=3)
    assert (tmp_path / "packed").read_bytes().hex(" ", 8) == GOLDEN
    (tmp_path / "golden").write_bytes(bytes.fromhex(GOLDEN))
    found = read_packed(tmp_path / "golden")
    assert all(same_bits(found[name], golden[name]) for name in golden)


def test_foreign_files_are_named_for_what_they_are(tmp_path):
    """Catches a message that sends the user to look for damage in a file of another kind."""
    (tmp_path / "text").write_text("weights")
    with pytest.raises(WithinError, match="no packed file"):
        read_packed(tmp_path / "text")
    with pytest.raises(WithinError, match="No such file"):
        read_packed(tmp_path / "missing")
    write_packed(state(), tmp_path / "packed")
    data = bytearray((tmp_path / "packed").read_bytes())
    data[len(MAGIC)] = 9
    (tmp_path / "later").write_bytes(data)
    with pytest.raises(WithinError, match="version 9"):
        read_packed(tmp_path / "later")
    with pytest.raises(WithinError, match="complex64"):
        write_packed({"z": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "z")
    with pytest.raises(WithinError, match="no tensor"):
        write_packed({"extra": 3}, tmp_path / "z")
    assert not (tmp_path / "z").exists()


GOLDEN = (
    "8f574954484e0d 0a01001000000002 0177000204080215 01620001020008a8 9317bd0603000000 000000003f000080 "
    "bf032baec0026110 c35ea2900000803f 0000004076a53f2e"
)
