"""Image files in and out: lossless, 16 bits kept, damaged files reported by name and never as wrong pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from within.core.errors import WithinError
from within.lowlevel.data import deep_rgb
from within.lowlevel.data.images import convert_color, image_size, read_image, to_image, to_tensor, write_image

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))
IMAGES = SHAPES.flatmap(lambda shape: st.sampled_from([np.uint8, np.uint16]).flatmap(lambda kind: arrays(kind, shape)))


def noise(shape=(12, 10, 3), dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def read_or_refuse(path):
    """Returns the image, or None when it was refused by name."""
    try:
        return read_image(path)
    except WithinError as error:
        if str(path) not in str(error):
            raise AssertionError(f"the error does not name {path}") from error
        return None


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm", ".bmp"])
@settings(max_examples=25, deadline=None)
@given(image=IMAGES)
def test_lossless_formats_return_what_was_written(tmp_path_factory, suffix, image):
    """Catches bits lost on the way (Pillow cuts RGB with 16 bits to 8), swapped channels, wrong byte order."""
    path = tmp_path_factory.getbasetemp() / f"image{suffix}"
    if suffix == ".bmp" and image.dtype == np.uint16:
        with pytest.raises(WithinError, match="16 bits"):
            write_image(path, image)
        return
    write_image(path, image)
    back = read_image(path)
    assert back.dtype == image.dtype
    assert np.array_equal(back, image)
    assert image_size(path) == image.shape[:2]


def test_jpeg_is_close():
    """Catches RGB written as BGR, which would still look like an image."""
    flat = np.zeros((16, 16, 3), np.uint8) + np.array([200, 100, 20], np.uint8)
    stream = io.BytesIO()
    Image.fromarray(flat).save(stream, "JPEG", quality=95)
    assert np.abs(read_image(stream.getvalue()).astype(int) - flat).max() <= 3


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(suffix, np.uint8) for suffix in (".png", ".tiff", ".ppm", ".bmp", ".jpg")]
    + [(suffix, np.uint16) for suffix in (".png", ".tiff", ".ppm")],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on damaged TIFF tags
@settings(max_examples=40, deadline=None)
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_refused_by_name(tmp_path_factory, suffix, dtype, fraction):
    """Catches decoders that fill what is missing with gray: a cut file is an error, or lost nothing but its trailer."""
    path = tmp_path_factory.getbasetemp() / f"whole_{dtype.__name__}{suffix}"
    write_image(path, noise(dtype=dtype))
    whole, content = read_image(path), path.read_bytes()
    cut = path.with_name(f"cut{suffix}")
    cut.write_bytes(content[: int(fraction * len(content))])
    image = read_or_refuse(cut)
    assert image is None or np.array_equal(image, whole)


@settings(max_examples=150, deadline=None)
@given(
    position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), dtype=st.sampled_from([np.uint8, np.uint16])
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on damaged TIFF tags
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
def test_damaged_files_raise_no_other_error(tmp_path_factory, suffix, position, value, dtype):
    """Catches decoder errors of other kinds (struct, zlib, MemoryError...) that would end in a traceback."""
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    write_image(path, noise(dtype=dtype))
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] = value
    path.write_bytes(content)
    read_or_refuse(path)


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\x89PNG\r\n\x1a\n", b"II*\0", b"P6 one"])
def test_other_files_are_refused_by_name(tmp_path, content):
    """Catches a file that only calls itself an image."""
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    for function in (read_image, image_size):
        with pytest.raises(WithinError, match=r"photo\.png"):
            function(path)
    with pytest.raises(WithinError, match=r"absent\.png"):
        read_image(tmp_path / "absent.png")


@settings(max_examples=40, deadline=None)
@given(
    image=st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(lambda size: arrays(np.uint16, (*size, 3))),
    filters=st.lists(st.integers(0, 4), min_size=6, max_size=6),
    alpha=st.booleans(),
)
def test_every_png_filter_is_undone(image, filters, alpha):
    """Catches a wrong predictor at the border or a carry over 8 bits, against a byte-wise encoder of the standard."""
    height, width, _ = image.shape
    pixels = np.concatenate([image, np.full((height, width, 1), 9, np.uint16)], 2) if alpha else image
    step = 8 if alpha else 6
    rows = pixels.astype(">u2").tobytes()
    length = width * step
    encoded = b""
    for row in range(height):
        kind = filters[row]
        encoded += bytes([kind])
        for column in range(length):
            at = row * length + column
            left = rows[at - step] if column >= step else 0
            up = rows[at - length] if row else 0
            corner = rows[at - length - step] if row and column >= step else 0
            near = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
            encoded += bytes([(rows[at] - (0, left, up, (left + up) // 2, near)[kind]) % 256])
    header = struct.pack(">IIBBBBB", width, height, 16, 6 if alpha else 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(encoded)), (b"IEND", b"")]
    file = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    assert np.array_equal(read_image(file), image)


def test_variants_that_are_not_supported_say_so():
    """Catches a wrong picture in place of a refusal: interlaced PNG, floating point, 32-bit integers."""
    file = bytearray(deep_rgb.encode(noise(dtype=np.uint16), "PNG"))
    file[28] = 1  # the interlace byte of IHDR
    for content, word in (
        (bytes(file), "Interlaced"),
        (_tiff(np.ones((4, 4), np.float32)), "floating-point"),
        (_tiff(np.full((4, 4), 70000, np.int32)), "16 bits"),
    ):
        with pytest.raises(WithinError, match=word):
            read_image(content, name="odd.png")


def _tiff(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "TIFF")
    return stream.getvalue()


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 3), ("LA", 1), ("P", 3), ("1", 1), ("CMYK", 3)])
def test_other_pixel_layouts_become_gray_or_rgb(mode, channels):
    """Catches palette indices taken for gray levels, and alpha taken for a colour."""
    stream = io.BytesIO()
    source = Image.fromarray(np.full((4, 5, 3), 255, np.uint8)).convert(mode)
    source.save(stream, "TIFF" if mode == "CMYK" else "PNG")
    image = read_image(stream.getvalue())
    assert image.shape == (4, 5, channels)
    assert (image == 255).all()


def test_orientation_of_the_camera_is_applied(tmp_path):
    """Catches sizes read from the header that differ from those of the decoded image."""
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise((20, 30, 3))).save(path, exif=exif)
    assert image_size(path) == read_image(path).shape[:2] == (30, 20)


def test_bad_arrays_and_suffixes_are_refused_and_the_old_file_stays(tmp_path):
    """Catches half-written files and silent casts."""
    path = tmp_path / "image.png"
    write_image(path, noise())
    before = path.read_bytes()
    for bad in (noise()[:, :, 0], noise().astype(np.float32), np.zeros((0, 3, 3), np.uint8), noise((4, 4, 2))):
        with pytest.raises(WithinError, match="image"):
            write_image(path, bad)
    with pytest.raises(WithinError, match="xyz"):
        write_image(tmp_path / "image.xyz", noise())
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["image.png"]


@given(image=IMAGES)
@settings(max_examples=50, deadline=None)
def test_tensors_and_back(image):
    """Catches a wrong range, a wrong order of axes, truncation instead of rounding."""
    tensor = to_tensor(image)
    assert tensor.shape == (image.shape[2], *image.shape[:2])
    assert tensor.min() >= 0
    assert tensor.max() <= 1
    assert np.array_equal(to_image(tensor, depth=8 if image.dtype == np.uint8 else 16), image)


def test_output_beyond_the_range_is_clamped():
    """Catches wrap-around: 1.1 must not become dark."""
    tensor = torch.tensor([-0.5, 0.0, 1.0, 1.5]).reshape(1, 1, 4)
    assert to_image(tensor).ravel().tolist() == [0, 0, 255, 255]


@given(image=IMAGES)
@settings(max_examples=30, deadline=None)
def test_gray_to_rgb_and_back_changes_nothing(image):
    """Catches luma weights that do not sum to one, and rounding down."""
    gray = image[:, :, :1]
    assert np.array_equal(convert_color(convert_color(gray, "rgb"), "gray"), gray)
    assert convert_color(image, "rgb").shape[2] == 3
