"""Data sets in their published layouts: the right pairs, the right classes, and errors that name the file at fault."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from within.core.errors import WithinError
from within.segmentation.data import ade20k, camvid, cityscapes, find_dataset, read_image, read_label_ids
from within.segmentation.data.pairs import SegmentationPairs
from within.segmentation.label_map import ADE20K, CAMVID, CITYSCAPES, CITYSCAPES_TRAIN_IDS

SIZE = (6, 8)
# Shares of the labelled pixels of CamVid's 367 training images, in the order of the classes.
SHARES = (0.175, 0.242, 0.010, 0.330, 0.047, 0.101, 0.012, 0.012, 0.061, 0.007, 0.003)


def save(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array, np.uint8))
    if palette:
        image.putpalette([7] * 768)  # colours that say nothing: the indices count
    image.save(path)


def photograph(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3))


def labelled(number):
    return np.full(SIZE, number)


def write_camvid(root, names=("a", "b"), layout="folders", suffix="jpg"):
    for number, name in enumerate(names):
        if layout == "folders":
            save(root / "train" / "images" / f"{name}.{suffix}", photograph(number))
            save(root / "train" / "labels" / f"{name}.png", labelled(number), palette=True)
        else:
            save(root / "train" / f"{name}.png", photograph(number))
            save(root / "trainannot" / f"{name}.png", labelled(number))
    return root


def write_cityscapes(root, kind="labelIds", numbers=(7, 33), split="val"):
    for city, number in zip(("bonn", "ulm"), numbers):
        save(root / "leftImg8bit" / split / city / f"{city}_0_leftImg8bit.png", photograph(number))
        save(root / "gtFine" / split / city / f"{city}_0_gtFine_{kind}.png", labelled(number))
    return root


def write_ade20k(root, split="training"):
    for number, name in ((0, "ADE_1"), (150, "ADE_2")):
        save(root / "images" / split / f"{name}.jpg", photograph(number))
        save(root / "annotations" / split / f"{name}.png", labelled(number))
    return root


def classes(pairs):
    return [pairs.read(index)[1].unique().tolist() for index in range(len(pairs))]


@pytest.mark.parametrize("layout", ["folders", "annot"])
def test_camvid_in_both_layouts(tmp_path, layout):
    """Catches palette colours in place of indices, and pairs out of order."""
    pairs = camvid(write_camvid(tmp_path, layout=layout), "train")
    assert pairs.label_map == CAMVID
    assert [pairs.item_name(index)[:1] for index in range(len(pairs))] == ["a", "b"]
    assert classes(pairs) == [[0], [1]]
    image, label = pairs.read(0)
    assert (image.dtype, label.dtype) == (torch.uint8, torch.uint8)
    assert (tuple(image.shape), tuple(label.shape)) == ((3, *SIZE), SIZE)
    assert image.is_contiguous()
    if layout == "annot":
        assert torch.equal(image, torch.from_numpy(photograph().astype(np.uint8)).permute(2, 0, 1))


@pytest.mark.parametrize("separator", ["\n", " "])
def test_lists_of_segnet_pair_files_of_different_names(tmp_path, separator):
    """Catches the paths of another machine taken literally, and a list that is ignored."""
    write_camvid(tmp_path, layout="annot")
    (tmp_path / "trainannot" / "b.png").rename(tmp_path / "trainannot" / "other.png")
    lines = ["/SegNet/CamVid/train/b.png /SegNet/CamVid/trainannot/other.png", "/x/train/a.png /x/trainannot/a.png"]
    (tmp_path / "train.txt").write_text(separator.join(lines) + "\n")
    pairs = camvid(tmp_path)
    assert [path.name for path in pairs.images] == ["b.png", "a.png"]
    assert classes(pairs) == [[1], [0]]
    (tmp_path / "train.txt").write_text("train/a.png\n")
    with pytest.raises(WithinError, match=r"train\.txt"):
        camvid(tmp_path)
    (tmp_path / "train.txt").write_text("train/lost.png trainannot/a.png\n")
    with pytest.raises(WithinError, match=r"1 of 1 images are missing.*lost\.png"):
        camvid(tmp_path)


@pytest.mark.parametrize(
    ("kind", "numbers", "label_map"),
    [("labelIds", (7, 33), CITYSCAPES), ("labelTrainIds", (0, 18), CITYSCAPES_TRAIN_IDS)],
)
def test_cityscapes_with_either_kind_of_label(tmp_path, kind, numbers, label_map):
    """Catches train ids read as label ids: 7 is road in one and traffic sign in the other."""
    pairs = cityscapes(write_cityscapes(tmp_path, kind, numbers), "val")
    assert pairs.label_map == label_map
    assert classes(pairs) == [[0], [18]]


def test_cityscapes_test_split_is_refused(tmp_path):
    """Catches scores against the empty stand-ins that are published for the test split."""
    with pytest.raises(WithinError, match=r"not public.*val"):
        cityscapes(write_cityscapes(tmp_path, split="test"), "test")


def test_ade20k_and_the_names_of_its_splits(tmp_path):
    """Catches other (0) as a class: it is void, and 150 is the last class."""
    write_ade20k(tmp_path)
    for split in ("train", "training"):
        pairs = ade20k(tmp_path, split)
        assert pairs.label_map == ADE20K
        assert classes(pairs) == [[255], [149]]
    with pytest.raises(WithinError, match="testing"):
        ade20k(tmp_path, "testing")


@pytest.mark.parametrize(
    ("write", "label_map", "split"),
    [
        (write_camvid, CAMVID, "train"),
        (lambda root: write_camvid(root, layout="annot"), CAMVID, "train"),
        (write_cityscapes, CITYSCAPES, "val"),
        (write_ade20k, ADE20K, "train"),
    ],
)
def test_a_folder_tells_its_data_set(tmp_path, write, label_map, split):
    """Catches a layout taken for another one; the folder above will do too."""
    write(tmp_path / "downloads" / "set")
    for folder in (tmp_path / "downloads" / "set", tmp_path / "downloads"):
        assert find_dataset(folder, split).label_map == label_map


def test_folders_without_a_data_set_are_refused(tmp_path):
    """Catches errors that do not say what was found and what was looked for."""
    with pytest.raises(WithinError, match="does not exist"):
        find_dataset(tmp_path / "absent")
    with pytest.raises(WithinError, match=r"0 data sets.*nothing"):
        find_dataset(tmp_path)
    write_camvid(tmp_path / "one")
    write_ade20k(tmp_path / "two")
    with pytest.raises(WithinError, match=r"2 data sets.*one, two"):
        find_dataset(tmp_path)
    for function in (camvid, cityscapes, ade20k):
        with pytest.raises(WithinError, match="val"):
            function(tmp_path / "one", "val")
    with pytest.raises(WithinError, match="nowhere"):
        camvid(tmp_path / "one", "nowhere")


def test_missing_labels_are_named(tmp_path):
    """Catches an image that is silently left out."""
    write_camvid(tmp_path, names=("a", "b", "c"))
    (tmp_path / "train" / "labels" / "b.png").unlink()
    with pytest.raises(WithinError, match=r"1 of 3 labels are missing.*b\.png"):
        camvid(tmp_path)
    for path in (tmp_path / "train" / "images").iterdir():
        path.unlink()
    with pytest.raises(WithinError, match="no images"):
        camvid(tmp_path)


def test_what_cannot_be_read_is_named(tmp_path):
    """Catches truncated files filled with gray, RGB labels read as numbers, and pairs of different sizes."""
    pairs = camvid(write_camvid(tmp_path, names=("a", "b")))
    image, label = pairs.images[0], pairs.labels[0]
    label_bytes, image_bytes = label.read_bytes(), image.read_bytes()

    def refused(words):
        with pytest.raises(WithinError, match=words):
            pairs.read(0)

    label.write_bytes(label_bytes[:-30])
    refused(r"truncated.*a\.png")
    label.write_text("version https://git-lfs.github.com/spec/v1")
    refused(r"a\.png.*Git LFS")
    save(label, photograph())
    refused(r"RGB.*a\.png.*labelIds")
    save(label, labelled(12))
    refused(r"12 in 48 pixels.*a\.png")
    save(label, np.zeros((8, 6)))
    refused(r"6x8.*8x6.*a\.png")
    label.unlink()
    refused(r"does not exist.*a\.png")
    label.write_bytes(label_bytes)
    image.write_bytes(image_bytes[: len(image_bytes) // 2])
    refused(r"truncated.*a\.jpg")
    image.write_bytes(b"")
    refused(r"a\.jpg")
    assert pairs.take([1]).read(0)[1].unique().tolist() == [1]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_photographs_of_every_kind_become_rgb(tmp_path, mode):
    """Catches gray images with one channel, and alpha as a fourth."""
    path = tmp_path / ("white.tiff" if mode == "CMYK" else "white.png")
    Image.fromarray(np.full((4, 5, 3), 255, np.uint8)).convert(mode).save(path)
    image = read_image(path)
    assert tuple(image.shape) == (3, 4, 5)
    assert (image == 255).all()


def test_labels_of_16_bits_keep_their_numbers(tmp_path):
    """Catches numbers cut to 8 bits, which would turn 256 into 0."""
    path = tmp_path / "label.png"
    numbers = np.array([[0, 255, 256, 65535]], np.uint16)
    Image.fromarray(numbers).save(path)
    assert read_label_ids(path).tolist() == numbers.tolist()


def test_pairs_need_as_many_labels_as_images(tmp_path):
    """Catches an empty set that scores 0/0, and zip that stops at the shorter."""
    path = tmp_path / "a.png"
    with pytest.raises(WithinError, match="1 images but 2 labels"):
        SegmentationPairs((path,), (path, path), CAMVID)
    with pytest.raises(WithinError, match="no images"):
        SegmentationPairs((), (), CAMVID)


def test_shares_of_void_alone_are_refused(tmp_path):
    """Catches a division by zero pixels."""
    save(tmp_path / "val/images/a.png", photograph())
    save(tmp_path / "val/labels/a.png", labelled(11))
    with pytest.raises(WithinError, match="every label is void"):
        camvid(tmp_path, "val").class_shares()


def test_camvid_is_the_published_split(data):
    """Catches classes out of order: the shares of the training pixels are known to three digits."""
    root = data("segmentation") / "camvid"
    train, val = find_dataset(root, "train"), find_dataset(root, "val")
    assert (len(train), len(val)) == (367, 101)
    image, label = val.read(0)
    assert tuple(image.shape) == (3, 360, 480)
    assert label.shape == image.shape[1:]
    assert np.abs(train.class_shares() - np.array(SHARES)).max() < 0.001
