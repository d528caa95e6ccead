"""LMDB folders in BasicSR's layout: written, read, and every way in which one can be broken."""

from __future__ import annotations

import pickle
import sys

import lmdb
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from within.core.errors import WithinError
from within.lowlevel.data import ArrayImages, LmdbImages, Patches, open_pair, write_lmdb


def arrays(shape=(16, 12, 3), names=("a.png", "b.png", "c.png"), dtype=np.uint8):
    generator = np.random.default_rng(0)
    return {name: generator.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype) for name in names}


@pytest.fixture
def folder(tmp_path):
    write_lmdb(tmp_path / "gt.lmdb", ArrayImages(arrays()))
    return tmp_path / "gt.lmdb"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_unchanged(tmp_path, dtype, channels):
    """Catches lossy encoding and 16 bits cut to 8."""
    images = arrays((7, 9, channels), dtype=dtype)
    write_lmdb(tmp_path / "x.lmdb", ArrayImages(images))
    source = LmdbImages(tmp_path / "x.lmdb")
    assert source.sizes == {"a": (7, 9), "b": (7, 9), "c": (7, 9)}
    for name, image in images.items():
        assert np.array_equal(source.read(name.removesuffix(".png")), image)


def test_the_layout_is_basicsr_s(folder):
    """Catches files that BasicSR cannot read: their names, the keys without suffix, the lines of meta_info.txt."""
    assert sorted(path.name for path in folder.iterdir()) == ["data.mdb", "lock.mdb", "meta_info.txt"]
    assert (folder / "meta_info.txt").read_text() == "a.png (16,12,3) 1\nb.png (16,12,3) 1\nc.png (16,12,3) 1\n"
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert [key for key, _ in transaction.cursor()] == [b"a", b"b", b"c"]
        assert transaction.get(b"a").startswith(b"\x89PNG")


def change(folder, key, value):
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
        if value is None:
            transaction.delete(key)
        else:
            transaction.put(key, value)


def test_missing_keys_are_named(folder):
    """Catches a database that lost images: it must fail when it is opened, not in the middle of training."""
    change(folder, b"b", None)
    with pytest.raises(WithinError, match=r"1 of the 3 keys.*: b"):
        LmdbImages(folder)


@pytest.mark.parametrize("value", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_values_that_are_no_image_are_named(folder, value):
    """Catches a key whose value is not an image."""
    change(folder, b"b", value)
    with pytest.raises(WithinError, match="key b"):
        LmdbImages(folder)


def test_a_damaged_value_is_named_when_read(folder):
    """Catches a truncated value, which only decoding can find."""
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        value = transaction.get(b"b")
    change(folder, b"b", value[:-60])
    source = LmdbImages(folder)
    with pytest.raises(WithinError, match="key b"):
        source.read("b")
    with pytest.raises(WithinError, match="no key 'z'"):
        source.read("z")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "data.mdb").unlink(), "data.mdb"),
        (lambda folder: (folder / "data.mdb").write_bytes(b"x" * 5000), "cannot be opened"),
        (lambda folder: (folder / "meta_info.txt").unlink(), "meta_info.txt"),
        (lambda folder: (folder / "meta_info.txt").write_text(""), "lists no images"),
        (lambda folder: (folder / "meta_info.txt").write_text("a.png 16x12\n"), "line 1"),
    ],
)
def test_broken_folders_are_refused(folder, spoil, message):
    """Catches tracebacks of the lmdb library and of parsing."""
    spoil(folder)
    with pytest.raises(WithinError, match=message):
        LmdbImages(folder)


def test_nothing_is_overwritten_or_left_half_written(tmp_path, folder):
    """Catches loss of an existing database and leftovers of a failed one."""
    with pytest.raises(WithinError, match="exists"):
        write_lmdb(folder, ArrayImages(arrays()))
    with pytest.raises(WithinError, match=r"\.lmdb"):
        write_lmdb(tmp_path / "plain", ArrayImages(arrays()))
    with pytest.raises(WithinError, match="key 'a'"):
        write_lmdb(tmp_path / "twice.lmdb", ArrayImages(arrays(names=("a.png", "a.bmp"))))
    with pytest.raises(WithinError, match="cannot be a key"):
        write_lmdb(tmp_path / "odd.lmdb", ArrayImages(arrays(names=("a b.png",))))

    class Failing(ArrayImages):
        def read(self, name):
            if name == "b.png":
                raise WithinError("unreadable", where=name)
            return super().read(name)

    with pytest.raises(WithinError, match="unreadable"):
        write_lmdb(tmp_path / "failed.lmdb", Failing(arrays()))
    assert [path.name for path in tmp_path.iterdir()] == ["gt.lmdb"]


def test_a_pair_of_databases(tmp_path, folder):
    """Catches databases whose keys differ, and patches that differ between worker processes and this one."""
    write_lmdb(tmp_path / "lq.lmdb", ArrayImages(arrays((8, 6, 3))))
    pairs = open_pair(folder, tmp_path / "lq.lmdb", backend="lmdb", scale=2, patches=Patches(4), enlarge=4)
    first = pairs.batch(torch.arange(12), torch.Generator().manual_seed(3))
    again = pickle.loads(pickle.dumps(pairs)).batch(torch.arange(12), torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert sum(len(batch["name"]) for batch in DataLoader(pairs, 3, num_workers=2)) == 12

    write_lmdb(tmp_path / "other.lmdb", ArrayImages(arrays((8, 6, 3), ("a.png", "b.png", "d.png"))))
    with pytest.raises(WithinError, match="no partner: c"):
        open_pair(folder, tmp_path / "other.lmdb", backend="lmdb", scale=2)


def test_without_the_extra_the_install_command_is_named(folder, monkeypatch):
    """Catches an ImportError where one sentence would do."""
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(WithinError, match=r"within-lowlevel\[lmdb\]"):
        LmdbImages(folder)
