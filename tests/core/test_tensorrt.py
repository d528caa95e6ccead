"""TensorRT's calibration cache and the command that builds an engine."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.device.tensorrt import (
    read_calibration_cache,
    trtexec_command,
    version_number,
    write_calibration_cache,
)
from within.core.errors import WithinError

HEADER = "TRT-100300-EntropyCalibration2\n"
NAMES = st.text(min_size=1, max_size=20).filter(
    lambda name: not set(name) & {"\n", "\r"} and all(not 0xD800 <= ord(letter) < 0xE000 for letter in name)
)
SCALES = st.floats(min_value=2.0**-149, max_value=float(np.finfo(np.float32).max), width=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder that all examples of a property share."""
    return tmp_path_factory.mktemp("caches")


@given(scales=st.dictionaries(NAMES, SCALES, min_size=1, max_size=8))
def test_every_float32_and_name_comes_back(folder: Path, scales: dict[str, float]) -> None:
    """Would catch lost bits, and names with colons, spaces or other alphabets that are cut."""
    write_calibration_cache(folder / "any.cache", scales)
    assert dict(read_calibration_cache(folder / "any.cache").scales) == scales


@given(scales=st.dictionaries(NAMES, SCALES, min_size=1, max_size=4), share=st.floats(0, 0.999))
def test_a_cut_file_never_gives_a_wrong_scale(folder: Path, scales: dict[str, float], share: float) -> None:
    """Would catch a scale read from half of its digits: a cut file is an error, or holds whole lines only."""
    path = folder / "cut.cache"
    write_calibration_cache(path, scales)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    try:
        read = dict(read_calibration_cache(path).scales)
    except WithinError:
        return
    assert read.items() <= scales.items()
    assert whole[int(share * len(whole)) :].lstrip(b"\n") == b"".join(
        f"{name}: {struct.pack('>f', scale).hex()}\n".encode() for name, scale in list(scales.items())[len(read) :]
    )


def test_the_file_is_what_tensorrt_writes(tmp_path: Path) -> None:
    """Would catch the other byte order, and a header of another release."""
    write_calibration_cache(tmp_path / "a.cache", {"input": 1 / 127, "two words: x": 1.0}, version="8.6.1")
    assert (tmp_path / "a.cache").read_text() == (
        "TRT-8601-EntropyCalibration2\ninput: 3c010204\ntwo words: x: 3f800000\n"
    )


def test_a_cache_of_tensorrt_is_read(tmp_path: Path) -> None:
    """Would catch trouble with names of unnamed layers, line ends of other systems, and a scale of zero."""
    path = tmp_path / "foreign.cache"
    path.write_bytes(b"TRT-7202-MinMaxCalibration\r\ndata: 3C010204\r\n(Unnamed Layer* 4) [Scale]_output: 0\r\n")
    cache = read_calibration_cache(path)
    assert (cache.version, cache.calibrator) == ("7202", "MinMaxCalibration")
    assert cache.scales["data"] == np.float32(1 / 127)
    assert cache.scales["(Unnamed Layer* 4) [Scale]_output"] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin as a calibration cache"),
        (b"data: 3c010204\n", "does not begin as a calibration cache"),
        (b"\xff\xfe\x00", "not text"),
        (HEADER.encode(), "no scales"),
        ((HEADER + "a: 3c010204\na: 3c010204\n").encode(), "The tensor a comes twice.*line 3"),
        ((HEADER + "a: 3c01020g\nb: 3c010204\n").encode(), "not a tensor and its scale.*line 2"),
        ((HEADER + "a: 3c01\nb: 3c010204\n").encode(), "not a tensor and its scale.*line 2"),
        ((HEADER + "a: 3c010204\nb: 3c01").encode(), "cut off at 'b: 3c01'.*line 3"),
        ((HEADER + "a: 3c010204\nlong_na").encode(), "cut off at 'long_na'"),
        ((HEADER + "a: 7fc00000\n").encode(), "The scale of a is nan"),
        ((HEADER + "a: bc010204\n").encode(), "The scale of a is -0.0078"),
    ],
)
def test_a_malformed_cache_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """Would catch a cache that is half read: each fault is named with its line."""
    path = tmp_path / "bad.cache"
    path.write_bytes(content)
    with pytest.raises(WithinError, match=message):
        read_calibration_cache(path)


def test_a_missing_cache_is_named(tmp_path: Path) -> None:
    """Would catch a bare OSError."""
    with pytest.raises(WithinError, match="Could not read"):
        read_calibration_cache(tmp_path / "none.cache")


@pytest.mark.parametrize(
    "scales",
    [
        {},
        {"": 1.0},
        {"a\nb": 1.0},
        {"a": 0.0},
        {"a": -1.0},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 1e39},
        {"a": 1e-60},
    ],
)
def test_what_cannot_be_a_scale_is_not_written(tmp_path: Path, scales: dict[str, float]) -> None:
    """Would catch a zero range or NaN that reaches the builder, and a file left behind."""
    with pytest.raises(WithinError):
        write_calibration_cache(tmp_path / "a.cache", scales)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("version", "number"), [("8.5.10", 8510), ("8.6", 8600), ("10.3", 100300), ("10.9.0", 100900)])
def test_number_of_a_release(version: str, number: int) -> None:
    """Would catch the change of the numbering at 10, because of which a builder refuses the cache."""
    assert version_number(version) == number


def test_command_for_dla() -> None:
    """Would catch a missing flag: without --int8 the cache is ignored, without fallback one layer ends the build."""
    command = trtexec_command("a/model.onnx", precision="int8", calibration_cache="model.cache", dla_core=1)
    assert command == [
        "trtexec",
        "--onnx=a/model.onnx",
        "--saveEngine=a/model.engine",
        "--int8",
        "--fp16",
        "--calib=model.cache",
        "--useDLACore=1",
        "--allowGPUFallback",
    ]
    strict = trtexec_command("model.onnx", precision="fp16", dla_core=0, fallback=False, engine_path="b.plan")
    assert strict == ["trtexec", "--onnx=model.onnx", "--saveEngine=b.plan", "--fp16", "--useDLACore=0"]


def test_command_for_a_release_that_reads_types() -> None:
    """Would catch flags that trtexec 11 refuses."""
    command = trtexec_command("model.onnx", precision="int8", tensorrt="11.4.1", dla_core=0)
    assert command[3:] == ["--useDLACore=0", "--allowGPUFallback"]
    assert len(trtexec_command("model.onnx", precision="fp32")) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "no precision"),
        ({"precision": "fp16", "calibration_cache": "a"}, "for int8"),
        ({"precision": "int8", "calibration_cache": "a", "tensorrt": "11.0"}, "takes no calibration cache"),
        ({"precision": "fp32", "dla_core": 0}, "fp16 and int8 only"),
        ({"precision": "int8", "dla_core": 0}, "scale of every tensor"),
        ({"precision": "fp16", "dla_core": -1}, "no DLA core -1"),
        ({"precision": "fp16", "dla_core": 0, "tensorrt": "10.9"}, "has a DLA nowhere"),
        ({"precision": "fp16", "tensorrt": "ten"}, "not a version"),
    ],
)
def test_a_build_that_would_be_refused_is_refused_here(options: dict, message: str) -> None:
    """Would catch a command that fails on the device after the copy."""
    with pytest.raises(WithinError, match=message):
        trtexec_command("model.onnx", **options)
