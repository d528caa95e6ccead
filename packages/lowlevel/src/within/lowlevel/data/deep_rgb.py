"""RGB images with 16 bits a channel, in PNG, TIFF and PPM, which Pillow can only read at 8 bits.

PNG (ISO/IEC 15948) stores each row with one of five filters; a filtered byte is predicted from the bytes one pixel
to the left (a), above (b) and above left (c). All three lie on earlier anti-diagonals of the image, so pixels of one
anti-diagonal are decoded together:

    x = filtered + {0, a, b, floor((a + b) / 2), paeth(a, b, c)}   modulo 256
"""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import tifffile
from jaxtyping import UInt8, UInt16

from within.core.errors import WithinError

DeepRgb = UInt16[np.ndarray, "height width 3"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL = 6  # bytes of one 16-bit RGB pixel


def decode(data: bytes) -> DeepRgb | None:
    """Returns the pixels of a 16-bit RGB file, or None when `data` is anything else.

    Raises:
        WithinError: when it is such a file in a variant that is not supported.
        ValueError, zlib.error, struct.error: when it is truncated or damaged.
    """
    if data.startswith(_SIGNATURE) and data[12:16] == b"IHDR" and len(data) > 33 and data[24] == 16:
        return _decode_png(data) if data[25] in (2, 6) else None
    if data.startswith(b"P6"):
        return _decode_ppm(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _decode_tiff(data)
    return None


def encode(image: DeepRgb, kind: str) -> bytes:
    """Returns the file of a 16-bit RGB image; `kind` is "PNG", "TIFF" or "PPM"."""
    height, width, _ = image.shape
    if kind == "PPM":
        return f"P6\n{width} {height}\n65535\n".encode() + image.astype(">u2").tobytes()
    if kind == "TIFF":
        stream = io.BytesIO()
        tifffile.imwrite(stream, image, photometric="rgb", compression="zlib")
        return stream.getvalue()
    rows = np.ascontiguousarray(image.astype(">u2")).view(np.uint8).reshape(height, width * _PIXEL)
    filtered = rows.copy()
    filtered[1:] -= rows[:-1]  # filter 2, "up": b alone predicts
    filters = np.full((height, 1), 2, np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    pixels = zlib.compress(np.concatenate([filters, filtered], axis=1).tobytes(), 6)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _decode_png(data: bytes) -> DeepRgb:
    width, height, _, color_type, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if interlaced:
        raise WithinError("Interlaced PNG with 16 bits a channel is not supported", todo="save it without interlacing")
    pixel = _PIXEL if color_type == 2 else 8
    compressed = b"".join(_image_chunks(data))
    raw = zlib.decompressobj().decompress(compressed, height * (width * pixel + 1))
    if len(raw) != height * (width * pixel + 1):
        raise ValueError(f"{len(raw)} bytes of pixels where {height * (width * pixel + 1)} are due")
    rows = np.frombuffer(raw, np.uint8).reshape(height, width * pixel + 1)
    pixels = _unfilter(rows[:, 0], rows[:, 1:].reshape(height, width, pixel))
    return pixels.view(">u2")[:, :, :3].astype(np.uint16)  # alpha, if any, is dropped


def _image_chunks(data: bytes) -> list[bytes]:
    position, found = len(_SIGNATURE), []
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        if checksum != zlib.crc32(kind + body):
            raise ValueError(f"checksum of the chunk {kind!r} does not match")
        if kind == b"IDAT":
            found.append(body)
        if kind == b"IEND":
            break
        position += 12 + length
    return found


def _unfilter(
    filters: UInt8[np.ndarray, " height"], filtered: UInt8[np.ndarray, "height width pixel"]
) -> UInt8[np.ndarray, "height width pixel"]:
    height, width, pixel = filtered.shape
    if filters.max(initial=0) > 4:
        raise ValueError(f"row filter {filters.max()}")
    # One row above and one pixel to the left are zeros, as the standard says.
    x = np.zeros((height + 1, width + 1, pixel), np.int32)
    for diagonal in range(height + width - 1):
        row = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        column = diagonal - row
        a, b, c = x[row + 1, column], x[row, column + 1], x[row, column]
        estimate = a + b - c
        to_a, to_b, to_c = abs(estimate - a), abs(estimate - b), abs(estimate - c)
        paeth = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
        predicted = np.choose(filters[row, None], [np.zeros_like(a), a, b, (a + b) // 2, paeth])
        x[row + 1, column + 1] = (filtered[row, column] + predicted) & 255
    return np.ascontiguousarray(x[1:, 1:].astype(np.uint8))


def _decode_ppm(data: bytes) -> DeepRgb | None:
    space = rb"(?:\s|#[^\n]*\n)+"  # comments are allowed between the numbers
    header = re.match(rb"P6" + (space + rb"(\d+)") * 3 + rb"\s", data)
    if header is None:
        return None
    width, height, largest = (int(number) for number in header.groups())
    if largest <= 255:
        return None
    pixels = np.frombuffer(data, ">u2", count=height * width * 3, offset=header.end())
    scaled = pixels.astype(np.uint32) * 65535
    return ((scaled + largest // 2) // largest).astype(np.uint16).reshape(height, width, 3)


def _decode_tiff(data: bytes) -> DeepRgb | None:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        if page.bitspersample != 16 or page.samplesperpixel < 3:
            return None
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            compression = tifffile.COMPRESSION(page.compression).name
            raise WithinError(
                f"TIFF with 16-bit RGB and the compression {compression} cannot be read",
                todo="save it uncompressed or with deflate, or pip install imagecodecs",
            ) from error
    planar = page.planarconfig == 2
    pixels = pixels.transpose(1, 2, 0) if planar else pixels
    return np.ascontiguousarray(pixels[:, :, :3])
