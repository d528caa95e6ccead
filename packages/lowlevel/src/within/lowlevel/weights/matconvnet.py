"""Reads the convolutions of a MatConvNet network from a MATLAB file, such as the published FFDNet.

MatConvNet keeps filters as height x width x in x out. Its sub-pixel layers number the pixels of a 2x2 cell column by
column, (0,0) (1,0) (0,1) (1,1), and torch row by row, so the channels at both ends of such a network are reordered.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from torch import Tensor

from within.core.errors import WithinError, missing_extra

COLUMN_TO_ROW = (0, 2, 1, 3)


@dataclass(frozen=True)
class _Layer:
    kind: str
    filters: np.ndarray | None = None  # height, width, in, out
    biases: np.ndarray | None = None


def read_matconvnet(path: str | Path) -> dict[str, Tensor]:
    """Returns the convolutions as `matconvnet.0`, `matconvnet.2`, ... (ReLUs lie between), for torch's sub-pixel order.

    Arguments:
        path: a MATLAB file with a structure `net`; version 7.3 (HDF5) needs h5py.

    Raises:
        WithinError: when it is no such file, is damaged, or is of version 7.3 and h5py is absent.
    """
    path = Path(path)
    with open(path, "rb") as handle:
        hdf5 = handle.read(16).startswith(b"MATLAB 7.3")
    try:
        layers = _read_hdf5(path) if hdf5 else _read_classic(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, scipy.io.matlab.MatReadError) as error:
        raise WithinError(
            f"The MATLAB file is damaged or holds no MatConvNet network ({type(error).__name__}: {error})",
            where=str(path),
            todo="give the .mat file of a network with convolutions in net.layers",
        ) from error
    convolutions = [layer for layer in layers if layer.filters is not None]
    if not convolutions:
        raise WithinError("The MATLAB file holds no convolutions", where=str(path))
    shuffled = any(layer.kind == "SubP" for layer in layers)
    state = {}
    for index, layer in enumerate(convolutions):
        weight, bias = np.transpose(layer.filters, (3, 2, 0, 1)), np.ravel(layer.biases)
        if shuffled and index == 0:
            weight = weight[:, _row_order(weight.shape[1])]
        if shuffled and index == len(convolutions) - 1:
            order = _row_order(weight.shape[0])
            weight, bias = weight[order], bias[order]
        state[f"matconvnet.{2 * index}.weight"] = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32))
        state[f"matconvnet.{2 * index}.bias"] = torch.from_numpy(np.ascontiguousarray(bias, dtype=np.float32))
    return state


def _row_order(channels: int) -> list[int]:
    """Groups of four channels are the pixels of a cell; what is left over (the noise level) stays at the end."""
    cells = channels // 4
    order = [4 * cell + pixel for cell in range(cells) for pixel in COLUMN_TO_ROW]
    return order + list(range(4 * cells, channels))


def _read_classic(path: Path) -> list[_Layer]:
    net = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["net"]
    layers = []
    for layer in np.atleast_1d(net.layers):
        if layer.type != "conv":
            layers.append(_Layer(str(layer.type)))
            continue
        filters, biases = layer.weights
        outputs = np.size(biases)
        # squeeze_me drops axes of length one, which a gray image's channel is.
        layers.append(_Layer("conv", _four_axes(filters, outputs), np.asarray(biases)))
    return layers


def _four_axes(filters: np.ndarray, outputs: int) -> np.ndarray:
    height, width = filters.shape[:2]
    return np.reshape(filters, (height, width, -1, outputs), order="F")


def _read_hdf5(path: Path) -> list[_Layer]:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("within-lowlevel", "matlab", error) from error
    layers = []
    with h5py.File(path) as file:
        for (reference,) in file["net/layers"][()]:
            layer: Any = file[reference]
            kind = "".join(chr(code) for code in np.ravel(layer["type"][()]))
            if kind != "conv":
                layers.append(_Layer(kind))
                continue
            filters, biases = (file[part][()] for part in np.ravel(layer["weights"][()]))
            # HDF5 lists MATLAB's axes backwards: out, in, width, height.
            layers.append(_Layer(kind, np.transpose(filters, (3, 2, 1, 0)), biases))
    return layers
