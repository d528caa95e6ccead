"""Files and commands of TensorRT that can be made without it: the INT8 calibration cache and the `trtexec` command.

A cache is text. Its first line names the release and the calibrator; every other line is `tensor: scale`, where scale =
amax / 127 is the four bytes of a float32 in hexadecimal, the most significant first: 1/127 is 3c010204.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from within.core.device.dla_rules import dla_rules, parse_version
from within.core.errors import WithinError
from within.core.files import atomic_write

_HEADER = re.compile(r"TRT-([0-9A-Za-z]+)-(EntropyCalibration2|EntropyCalibration|MinMaxCalibration)")
_SCALE = re.compile(r"[0-9A-Fa-f]{8}|0")  # a scale of zero is printed as one digit
_PRECISIONS = ("fp32", "fp16", "int8")
_TYPED = (11, 0, 0)  # from here on types decide the precision, and there are no caches
_REPAIR = "calibrate again, or write it with write_calibration_cache"


@dataclass(frozen=True)
class CalibrationCache:
    """A calibration cache.

    Attributes:
        version: the release's number as the header has it, as in "100300" for 10.3.0.
        calibrator: "EntropyCalibration2" (the only one for DLA), "EntropyCalibration" or "MinMaxCalibration".
        scales: size of one integer step of each tensor, amax / 127, by name.
    """

    version: str
    calibrator: str
    scales: Mapping[str, float]


def write_calibration_cache(path: str | Path, scales: Mapping[str, float], *, version: str = "10.3") -> None:
    """Writes a cache for the calibrator EntropyCalibration2, which DLA needs.

    Arguments:
        path: the file; written whole or not at all.
        scales: for each tensor of the ONNX graph the size of one integer step, amax / 127; stored as float32.
        version: the release that will build the engine. Releases refuse the caches of others.

    Raises:
        WithinError: when there are no scales, a name cannot be stored, or a scale is not a positive finite float32.
    """
    if not scales:
        raise WithinError("There are no scales to write", where=str(path), todo="calibrate the model first")
    lines = [f"TRT-{version_number(version)}-EntropyCalibration2"]
    lines += [f"{_checked_name(name)}: {_encoded(name, scale)}" for name, scale in scales.items()]
    with atomic_write(path) as temporary:
        temporary.write_bytes(("\n".join(lines) + "\n").encode())


def read_calibration_cache(path: str | Path) -> CalibrationCache:
    """Reads a cache that TensorRT or `write_calibration_cache` wrote.

    Raises:
        WithinError: when the file is missing or no cache, a line is malformed or cut off, or a name comes twice. A file
            cut off exactly between two lines cannot be told from a shorter cache: the format has no count.
    """
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise WithinError(f"Could not read the file: {error.strerror or error}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise WithinError("The calibration cache is not text", where=str(path), todo=_REPAIR) from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    header = _HEADER.fullmatch(lines[0])
    if header is None:
        raise WithinError(
            f"The file does not begin as a calibration cache does, but with {lines[0][:60]!r}",
            where=f"{path}, line 1",
            todo="the first line must be as TRT-100300-EntropyCalibration2",
        )
    scales: dict[str, float] = {}
    for number, line in enumerate(lines[1:], start=2):
        if line:
            name, scale = _parsed(line, where=f"{path}, line {number}", last=number == len(lines))
            if name in scales:
                raise WithinError(f"The tensor {name} comes twice", where=f"{path}, line {number}", todo=_REPAIR)
            scales[name] = scale
    if not scales:
        raise WithinError("The calibration cache holds no scales", where=str(path), todo=_REPAIR)
    return CalibrationCache(header[1], header[2], scales)


def version_number(version: str) -> int:
    """Returns a release as TensorRT's own number: 8.6.1 is 8601, and from 10 on 10.3.0 is 100300."""
    major, minor, patch = parse_version(version)
    return major * (1000 if major < 10 else 10000) + minor * 100 + patch


def trtexec_command(
    onnx_path: str | Path,
    *,
    precision: str,
    calibration_cache: str | Path | None = None,
    dla_core: int | None = None,
    fallback: bool = True,
    engine_path: str | Path | None = None,
    tensorrt: str = "10.3",
    executable: str = "trtexec",
) -> list[str]:
    """Returns the command that builds an engine where TensorRT is installed.

    Arguments:
        onnx_path: the model. For INT8 on the GPU it may hold Q/DQ instead of having a cache.
        precision: "fp32", "fp16" or "int8". INT8 allows FP16, too, for layers that have no integer kernel.
        calibration_cache: scales of the tensors, for INT8.
        dla_core: number of the DLA core; None builds for the GPU.
        fallback: whether layers that the DLA cannot run may run on the GPU.
        engine_path: the engine; beside the model by default.
        tensorrt: the release that will run the command.
        executable: name or path of trtexec.

    Raises:
        WithinError: for combinations that the release refuses, with what to do instead.
    """
    typed = parse_version(tensorrt) >= _TYPED
    _check_build(precision, calibration_cache, dla_core, tensorrt, typed)
    engine = Path(onnx_path).with_suffix(".engine") if engine_path is None else Path(engine_path)
    command = [executable, f"--onnx={onnx_path}", f"--saveEngine={engine}"]
    if not typed:
        command += {"fp32": [], "fp16": ["--fp16"], "int8": ["--int8", "--fp16"]}[precision]
    if calibration_cache is not None:
        command.append(f"--calib={calibration_cache}")
    if dla_core is not None:
        command.append(f"--useDLACore={dla_core}")
        if fallback:
            command.append("--allowGPUFallback")
    return command


def _check_build(precision: str, cache: str | Path | None, dla_core: int | None, tensorrt: str, typed: bool) -> None:
    if precision not in _PRECISIONS:
        raise WithinError(f"{precision!r} is no precision", where="precision", todo=f"one of {', '.join(_PRECISIONS)}")
    if cache is not None and typed:
        raise WithinError(
            f"TensorRT {tensorrt} takes no calibration cache",
            where="calibration_cache",
            todo="export the model with QuantizeLinear and DequantizeLinear instead",
        )
    if cache is not None and precision != "int8":
        raise WithinError(
            f"A calibration cache is for int8, not {precision}",
            where="calibration_cache",
            todo="leave it out, or build with precision='int8'",
        )
    if dla_core is None:
        return
    if dla_core < 0:
        raise WithinError(f"There is no DLA core {dla_core}", where="dla_core", todo="cores are counted from 0")
    if precision == "fp32":
        raise WithinError("DLA computes in fp16 and int8 only", where="precision", todo="choose one of them")
    rules = dla_rules(tensorrt)
    if not rules.available:
        raise WithinError(f"TensorRT {tensorrt} has a DLA {rules.where}", where="tensorrt", todo="leave dla_core out")
    if precision == "int8" and cache is None and not rules.explicit:
        raise WithinError(
            "INT8 on DLA needs the scale of every tensor",
            where="calibration_cache",
            todo="write the scales with write_calibration_cache; this release does not read Q/DQ for DLA",
        )


def _checked_name(name: str) -> str:
    if not name or "\n" in name or "\r" in name:
        raise WithinError(
            f"A tensor named {name!r} cannot be stored in a calibration cache",
            where="scales",
            todo="name every tensor, without line breaks",
        )
    return name


def _encoded(name: str, scale: float) -> str:
    try:
        stored = struct.pack(">f", scale)
    except OverflowError:
        stored = struct.pack(">f", math.inf)
    value = struct.unpack(">f", stored)[0]
    if not (math.isfinite(value) and value > 0):
        raise WithinError(
            f"The scale {scale!r} is not a positive finite float32",
            where=name,
            todo="calibrate on data that reaches the tensor; a tensor of zeros alone needs no scale, leave it out",
        )
    return stored.hex()


def _parsed(line: str, *, where: str, last: bool) -> tuple[str, float]:
    name, separator, digits = line.rpartition(": ")
    if not (separator and name and _SCALE.fullmatch(digits)):
        if last:  # a whole file ends with a line break
            raise WithinError(f"The calibration cache is cut off at {line[:60]!r}", where=where, todo=_REPAIR)
        raise WithinError(
            f"{line[:60]!r} is not a tensor and its scale",
            where=where,
            todo="a line must be as `tensor: 3c010204`, eight hexadecimal digits",
        )
    scale = float(struct.unpack(">f", bytes.fromhex(digits.zfill(8)))[0])
    if not (math.isfinite(scale) and scale >= 0):
        raise WithinError(f"The scale of {name} is {scale}", where=where, todo=_REPAIR)
    return name, scale
