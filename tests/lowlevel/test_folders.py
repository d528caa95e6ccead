"""Folders, meta-info files, pairs and patches: what belongs together stays together, and what does not is named."""

from __future__ import annotations

import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from within.core.errors import WithinError
from within.lowlevel.data import (
    TEST_NAMES,
    TRAIN_NAMES,
    ArrayImages,
    BicubicDownscale,
    DegradedImages,
    FolderImages,
    GaussianNoise,
    PairedImages,
    Patches,
    load_all,
    open_pair,
    open_source,
    sample_image,
    sample_images,
    write_image,
)
from within.lowlevel.data.meta_info import ImageEntry, read_meta_info, write_meta_info
from within.lowlevel.data.sample_images import NAMES


def image(height=24, width=20, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def fill(folder, sizes, suffix=".png"):
    for seed, (name, (height, width)) in enumerate(sizes.items()):
        write_image(folder / f"{name}{suffix}", image(height, width, seed=seed))
    return folder


# Folders


def test_a_folder_gives_its_images_by_name(tmp_path):
    """Catches an order that depends on the file system, hidden files and sub-folders taken for images."""
    fill(tmp_path, {"b": (8, 9), "a": (7, 6), "c": (5, 4)})
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "more").mkdir()
    source = FolderImages(tmp_path)
    assert source.sizes == {"a.png": (7, 6), "b.png": (8, 9), "c.png": (5, 4)}
    assert np.array_equal(source.read("b.png"), image(8, 9, seed=0))
    assert np.array_equal(load_all(source).read("a.png"), source.read("a.png"))


@pytest.mark.parametrize(
    ("name", "content"), [("notes.txt", b"hello"), ("bad.png", b"hello"), ("empty.png", b""), ("cut.png", None)]
)
def test_files_that_are_no_images_are_named_or_skipped(tmp_path, name, content):
    """Catches images lost in silence: by default such a file is an error, when skipped it is listed."""
    fill(tmp_path, {"a": (8, 9), "b": (8, 9)})
    (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes()[:-80] if content is None else content)
    with pytest.raises(WithinError, match=name):
        FolderImages(tmp_path).read(name)  # that a file is truncated shows when it is decoded
    with pytest.warns(UserWarning, match=name):
        source = FolderImages(tmp_path, skip_bad=True)
    assert list(source.sizes) == ["a.png", "b.png"]
    assert list(source.skipped) == [name]


def test_folders_without_images_are_refused(tmp_path):
    """Catches training on nothing."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(WithinError, match="folder"):
            FolderImages(folder)
    (tmp_path / "a.txt").write_text("x")
    with pytest.warns(UserWarning, match="a.txt"), pytest.raises(WithinError, match="no images"):
        FolderImages(tmp_path, skip_bad=True)
    with pytest.raises(WithinError, match="no images"):
        ArrayImages({})


# Meta-info files

ENTRIES = st.builds(
    ImageEntry,
    st.from_regex(r"[A-Za-z0-9_/-]{1,8}\.png", fullmatch=True),
    st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999), st.sampled_from([1, 3])),
    st.none() | st.integers(0, 2**32 - 1),
)


@settings(max_examples=50, deadline=None)
@given(entries=st.lists(ENTRIES, min_size=1, max_size=5, unique_by=lambda entry: entry.name))
def test_meta_info_lines_survive_writing_and_reading(tmp_path_factory, entries):
    """Catches a line that we write and cannot read."""
    path = tmp_path_factory.getbasetemp() / "meta_info.txt"
    write_meta_info(path, entries)
    assert read_meta_info(path) == tuple(entries)


def test_meta_info_lines_of_basicsr_are_read(tmp_path):
    """Catches a grammar narrower than that of public files."""
    path = tmp_path / "meta_info.txt"
    path.write_text("0001_s001.png (480,480,3)\nbaboon.png (480, 500, 3) 1\ncomic.png\n\n")
    assert read_meta_info(path) == (
        ImageEntry("0001_s001.png", (480, 480, 3)),
        ImageEntry("baboon.png", (480, 500, 3), compression_level=1),
        ImageEntry("comic.png"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png (4,4,3)\nb.png 4x4\n", "line 2"),
        ("a.png (4,4,3) zz\n", "line 1"),
        ("a.png (0,4,3)\n", "line 1"),
        ("a.png (4,4,3)\n\na.png (4,4,3)\n", "line 3"),
        ("gt/a.png, lq/a.png\n", "line 1"),
        ("\n\n", "no images"),
    ],
)
def test_bad_meta_info_is_named_by_line(tmp_path, text, message):
    """Catches a line half understood."""
    path = tmp_path / "meta_info.txt"
    path.write_text(text)
    with pytest.raises(WithinError, match=message):
        read_meta_info(path)


def test_meta_info_is_compared_with_the_files(tmp_path):
    """Catches a meta-info file that is older than its images."""
    fill(tmp_path / "gt", {"a": (8, 9), "b": (8, 9)})
    path = tmp_path / "meta_info.txt"
    crc = zlib.crc32((tmp_path / "gt" / "a.png").read_bytes())
    path.write_text(f"a.png (8,9,3) {crc:08x}\n")
    assert list(open_source(tmp_path / "gt", meta_info=path).sizes) == ["a.png"]
    for line, message in (
        ("a.png (9,8,3)", "8x9.*9x8"),
        (f"a.png (8,9,3) {crc ^ 1:08x}", "CRC"),
        ("c.png (8,9,3)", "c.png"),
    ):
        path.write_text(line)
        with pytest.raises(WithinError, match=message):
            open_source(tmp_path / "gt", meta_info=path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WithinError, match="not text"):
        open_source(tmp_path / "gt", meta_info=path)
    with pytest.raises(WithinError, match="absent"):
        open_source(tmp_path / "gt", meta_info=tmp_path / "absent")


# Pairs


def test_pairs_follow_the_file_name_template(tmp_path):
    """Catches pairs matched by position, and a template that only works with one suffix."""
    gt, lq = tmp_path / "gt", tmp_path / "lq"
    fill(gt, {"b": (8, 12), "a": (16, 8)})
    fill(lq, {"ax4": (4, 2), "bx4": (2, 3)}, ".bmp")
    pairs = open_pair(gt, lq, scale=4, filename_template="{}x4")
    items = {item["name"]: item for item in (pairs[0], pairs[1])}
    assert items["a.png"]["lq"].shape == (3, 4, 2)
    assert items["b.png"]["gt"].shape == (3, 8, 12)
    (tmp_path / "meta_info.txt").write_text("b.png (8,12,3)\n")
    fill(lq, {"bx4": (2, 3)})
    assert len(open_pair(gt, lq, scale=4, filename_template="{}x4", meta_info=tmp_path / "meta_info.txt")) == 1
    for template in ("x4", "{}{}"):
        with pytest.raises(WithinError, match="filename_tmpl"):
            open_pair(gt, lq, scale=4, filename_template=template)


def test_images_without_a_partner_are_named(tmp_path):
    """Catches images that are dropped, or paired with another one, because a file is missing."""
    fill(tmp_path / "gt", {"a": (8, 8), "b": (8, 8)})
    fill(tmp_path / "lq", {"a": (8, 8)})
    with pytest.raises(WithinError, match=r"no partner: b\.png"):
        open_pair(tmp_path / "gt", tmp_path / "lq")
    with pytest.raises(WithinError, match=r"no ground truth: b\.png"):
        open_pair(tmp_path / "lq", tmp_path / "gt")


def test_a_skipped_image_takes_its_partner_along(tmp_path):
    """Catches a pair error in place of a skipped pair."""
    fill(tmp_path / "gt", {"a": (8, 8), "b": (8, 8), "c": (8, 8)})
    fill(tmp_path / "lq", {"ax2": (4, 4), "bx2": (4, 4), "cx2": (4, 4)})
    (tmp_path / "gt" / "a.png").write_bytes(b"x")
    (tmp_path / "lq" / "bx2.png").write_bytes(b"x")
    with pytest.warns(UserWarning, match="skipped"):
        pairs = open_pair(tmp_path / "gt", tmp_path / "lq", scale=2, filename_template="{}x2", skip_bad=True)
    assert pairs.names == ["c.png"]


def test_sizes_that_do_not_match_are_named(tmp_path):
    """Catches a wrong scale; up to scale - 1 rows and columns may be cut off, as modcrop does, but no more."""
    gt = ArrayImages({"a": image(11, 9)})
    item = PairedImages(gt, ArrayImages({"a": image(5, 4)}), scale=2)[0]
    assert item["gt"].shape == (3, 10, 8)
    for small in ((5, 5), (4, 4), (11, 9)):
        with pytest.raises(WithinError, match=r"11x9.*height x width"):
            PairedImages(gt, ArrayImages({"a": image(*small)}), scale=2)


def test_gray_and_rgb_are_not_mixed():
    """Catches a failure deep inside a batch."""
    gt, lq = ArrayImages({"a": image()}), ArrayImages({"a": image(channels=1)})
    with pytest.raises(WithinError, match=r"3 channels.* 1"):
        PairedImages(gt, lq)[0]
    assert PairedImages(gt, lq, color="gray")[0]["gt"].shape[0] == 1
    assert PairedImages(gt, lq, color="rgb")[0]["lq"].shape[0] == 3


# Patches


@settings(max_examples=60, deadline=None)
@given(
    scale=st.integers(1, 4),
    size=st.integers(1, 5),
    height=st.integers(5, 9),
    width=st.integers(5, 9),
    flip=st.booleans(),
    rotate=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_patches_of_a_pair_cover_the_same_pixels(scale, size, height, width, flip, rotate, seed):
    """Catches a crop off by a pixel or a flip of one image only: gt is lq enlarged, so their patches must be too."""
    lq = np.arange(height * width, dtype=np.uint8).reshape(height, width, 1)
    gt = lq.repeat(scale, 0).repeat(scale, 1)
    big, small = Patches(size * scale, flip, rotate).cut(gt, lq, scale, np.random.default_rng(seed))
    assert small.shape == (size, size, 1)
    assert np.array_equal(big, small.repeat(scale, 0).repeat(scale, 1))
    assert np.isin(small, lq).all()


def test_all_positions_and_symmetries_occur():
    """Catches a last row or column that is never drawn, and symmetries that are missing."""
    lq = np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    generator = np.random.default_rng(0)
    seen = {Patches(2).cut(lq, lq, 1, generator)[0].tobytes() for _ in range(600)}
    assert len(seen) == 4 * 8
    generator = np.random.default_rng(0)
    seen = {Patches(2, flip=False, rotate=False).cut(lq, lq, 1, generator)[0].tobytes() for _ in range(100)}
    assert len(seen) == 4


def test_patches_that_do_not_fit_are_refused():
    """Catches a failure in the middle of training."""
    source = ArrayImages({"large": image(40, 40), "small": image(40, 12)})
    with pytest.raises(WithinError, match="small is 40x12"):
        DegradedImages(source, GaussianNoise(25), patches=Patches(16))
    with pytest.raises(WithinError, match="multiple of the scale 4"):
        DegradedImages(source, BicubicDownscale(4), patches=Patches(10))


def test_a_seed_decides_patches_and_noise():
    """Catches randomness from another source, for this process, for `batch`, and for the workers of a DataLoader."""
    data = DegradedImages(
        ArrayImages({name: image(seed=seed) for seed, name in enumerate("abcd")}),
        GaussianNoise((5, 50)),
        patches=Patches(8),
        enlarge=3,
    )
    assert len(data) == 12
    assert data.item_name(5) == "b"

    def by_loader(seed, workers):
        torch.manual_seed(seed)
        return torch.cat([batch["lq"] for batch in DataLoader(data, 3, num_workers=workers)])

    for workers in (0, 2):
        assert torch.equal(by_loader(1, workers), by_loader(1, workers))
        assert not torch.equal(by_loader(1, workers), by_loader(2, workers))
    batches = [data.batch(torch.arange(6), torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])
    assert len({item.numpy().tobytes() for item in by_loader(1, 2)}) == 12


def test_whole_images_are_always_the_same():
    """Catches an evaluation that depends on what was drawn before; the seed alone decides its noise."""
    source = ArrayImages({"a": image(), "b": image(seed=1)})
    data = DegradedImages(source, GaussianNoise(25), seed=1)
    first = data[1]["lq"]
    torch.manual_seed(5)
    np.random.seed(5)
    assert torch.equal(data[1]["lq"], first)
    assert not torch.equal(DegradedImages(source, GaussianNoise(25), seed=2)[1]["lq"], first)
    with pytest.raises(IndexError):
        data[2]
    assert [item["name"] for item in data] == ["a", "b"]
    with pytest.raises(WithinError, match="at least 1"):
        DegradedImages(source, GaussianNoise(25), enlarge=0)


def test_a_degradation_with_a_scale_gets_whole_multiples():
    """Catches sizes that no longer fit after downscaling."""
    item = DegradedImages(ArrayImages({"a": image(23, 18)}), BicubicDownscale(4))[0]
    assert item["gt"].shape == (3, 20, 16)
    assert item["lq"].shape == (3, 5, 4)


# Photographs that ship with the dependencies


def test_sample_images_are_there_and_the_split_is_clean():
    """Catches a picture that a new version of a package no longer holds, and training on held-out ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in NAMES:
            picture = sample_image(name)
            assert picture.dtype == np.uint8
            assert picture.std() > 5
    assert not set(TRAIN_NAMES) & set(TEST_NAMES)
    assert sorted(TRAIN_NAMES + TEST_NAMES) == sorted(NAMES)
    assert {array.shape[2] for array in sample_images(TEST_NAMES, color="gray").arrays.values()} == {1}
    with pytest.raises(WithinError, match="lena"):
        sample_image("lena")
