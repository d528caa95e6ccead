"""Sparse convolution: spconv's outputs, the definition by brute force, gradients, and CPU time on a real frame.

One thread's CPU time, rulebooks included, ours and spconv's in turns in one process where spconv is installed (the
optional partners); otherwise against spconv's times as they were measured for the golden file. The four submanifold
layers are those of the stages of CenterPoint's residual backbone on frame 000008.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from within.core.bench import BenchResult
from within.core.errors import WithinError
from within.perception3d.data.kitti import find_kitti
from within.perception3d.models.folding import folded
from within.perception3d.models.variants import build
from within.perception3d.sparse import SparseConvolution, SparseTensor, SubmanifoldConvolution, convolve, sparse_tensor
from within.perception3d.sparse.rulebook import brute_force, strided, submanifold
from within.perception3d.training_scenes import network_inputs

FRAME = "000008"
GOLDEN = Path("golden") / "spconv238_cpu_000008.safetensors"
MOST_DIFFERENCE, MOST_RATIO, MOST_BACKBONE = 1e-5, 1.0, 0.424
RECORDED_MS = (4.1, 16.5, 26.5, 35.7)  # spconv 2.3.8, each layer with its rulebook
ROUNDS = 15
GRIDS = 200


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` takes four times as many rounds and grids."""
    torch.set_num_threads(1)
    data = Path(os.environ.get("WITHIN_DATA", "")) / "perception3d"
    if not (data / GOLDEN).is_file():
        raise WithinError("The golden file is not there", where=str(data / GOLDEN), todo="set WITHIN_DATA")
    times = 4 if full else 1
    difference = _golden(load_file(data / GOLDEN))
    wrong = _wrong_grids(GRIDS * times)
    gradients = _gradients()
    layers, backbone = _times(data, ROUNDS * times)
    ours, theirs = (sum(each[name] for each in layers) for name in ("ours", "spconv"))
    missed = [
        name
        for name, good in (
            ("golden", difference <= MOST_DIFFERENCE),
            ("brute force", not wrong),
            ("gradcheck", gradients),
            ("submanifold time", ours / theirs <= MOST_RATIO),
            ("backbone time", backbone < MOST_BACKBONE),
        )
        if not good
    ]
    rows = [
        (each["layer"], f"{each['rulebook']:.2f}", f"{each['ours']:.2f}", f"{each['spconv']:.2f}",
         f"{each['ours'] / each['spconv']:.2f}")
        for each in layers
    ]  # fmt: skip
    rows.append(("all four", "", f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}"))
    rows.append(("whole residual backbone", "", f"{1e3 * backbone:.1f}", "424", f"{backbone / MOST_BACKBONE:.2f}"))
    figures = {
        "golden_difference": difference, "grids": GRIDS * times, "wrong_grids": wrong, "gradcheck": gradients,
        "submanifold_ms": {"ours": round(ours, 2), "spconv": round(theirs, 2), "ratio": round(ours / theirs, 3)},
        "spconv": "measured beside" if _spconv() else "as recorded with the golden file",
        "backbone_ms": round(1e3 * backbone, 1), "missed": missed,
    }  # fmt: skip
    columns = ("layer", "rulebook ms", "ours with it ms", "spconv ms", "ratio")
    return BenchResult("sparseconv", not missed, figures, columns, rows)


def _golden(golden: dict[str, Tensor]) -> float:
    """Returns the largest difference from spconv's outputs at the same places."""
    shape = tuple(golden["spatial_shape_zyx"].tolist())
    x = sparse_tensor(golden["in.features"], golden["in.indices_bzyx"], shape, 1)
    layers = {
        "subm_4_16": SubmanifoldConvolution(4, 16),
        "conv_s2_16_32": SparseConvolution(16, 32, stride=2, padding=1),
        "subm_32_32": SubmanifoldConvolution(32, 32, bias=True),
    }
    differences = []
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(golden[f"{name}.weight_okkki"])
            if layer.bias is not None:
                layer.bias.copy_(golden[f"{name}.bias"])
            x = layer(x)
            places = golden["in.indices_bzyx" if name == "subm_4_16" else "conv_s2_16_32.out_indices"]
            ours, theirs = _order(x.indices), _order(places)
            if not torch.equal(x.indices[ours].long(), places[theirs].long()):
                return float("inf")
            differences.append(float((x.features[ours] - golden[f"{name}.out"][theirs]).abs().max()))
    return max(differences)


def _order(indices: Tensor) -> Tensor:
    return torch.from_numpy(np.lexsort(indices.numpy().T[::-1]))


def _wrong_grids(count: int) -> int:
    """Returns how many of some random grids, with borders and batches, have a rulebook other than the definition's."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(count):
        shape = tuple(int(each) for each in generator.integers(1, 8, int(generator.integers(2, 4))))
        batch, size = int(generator.integers(1, 4)), int(generator.choice([1, 3]))
        stride, padding = int(generator.integers(1, 4)), int(generator.integers(0, 2))
        places = torch.from_numpy(np.argwhere(generator.random((batch, *shape)) < generator.random())).int()
        places = places[torch.from_numpy(generator.permutation(len(places)))].contiguous()
        axes = len(shape)
        kernel, one = (size,) * axes, (1,) * axes
        if not len(places):
            continue
        book = submanifold(places, shape, batch, kernel, one)
        wrong += _triples(book) != brute_force(places.tolist(), places.tolist(), kernel, one, (size // 2,) * axes, one)
        if all(each + 2 * padding >= size for each in shape):
            steps, pads = (stride,) * axes, (padding,) * axes
            book = strided(places, shape, batch, kernel, steps, pads, one)
            outputs = book.out_indices.tolist()
            wrong += _triples(book) != brute_force(places.tolist(), outputs, kernel, steps, pads, one)
    return wrong


def _triples(book: Any) -> set[tuple[int, int, int]]:
    return {
        (k, int(i), int(o))
        for k, (low, high) in enumerate(itertools.pairwise(book.starts))
        for i, o in zip(book.inputs[low:high], book.outputs[low:high], strict=True)
    }


def _gradients() -> bool:
    """Returns whether the gradients of both kinds, sparse and crowded, are those of finite differences."""
    generator = torch.Generator().manual_seed(0)
    for share in (0.3, 1.0):
        mask = torch.rand(2, 3, 4, 5, generator=generator) < share
        places = mask.nonzero().int()
        features = torch.randn(len(places), 3, generator=generator, dtype=torch.float64, requires_grad=True)
        for layer in (SubmanifoldConvolution(3, 9, bias=True), SparseConvolution(3, 2, stride=2, padding=1)):
            layer = layer.double()

            def output(rows: Tensor, layer: Any = layer, places: Tensor = places) -> Tensor:
                found: Tensor = layer(SparseTensor(rows, places, (3, 4, 5), 2)).features
                return found

            if not torch.autograd.gradcheck(output, (features,)):
                return False
    return True


def _times(data: Path, rounds: int) -> tuple[list[dict[str, Any]], float]:
    """Returns milliseconds of the four submanifold layers, and seconds of the whole backbone."""
    frames = find_kitti(data / "kitti", "all")
    detector = folded(build("center_point_kitti"))
    inputs = network_inputs([frames.scene(frames.names.index(FRAME)).points], detector.grid, detector.columns)
    seen: list[tuple[Any, SparseTensor]] = []

    def note(module: Any, given: tuple[SparseTensor], _output: Any) -> None:
        seen.append((module, given[0]))

    first = [stage[-1].convolution2 for stage in detector.backbone.stages]
    handles = [module.register_forward_hook(note) for module in first]
    with torch.no_grad():
        detector.backbone(detector.voxels(*inputs))
        for handle in handles:
            handle.remove()
        others = _spconv_layers(seen)
        samples: list[list[tuple[float, float, float]]] = [[] for _ in seen]
        whole = []
        for _ in range(rounds):
            for number, (module, x) in enumerate(seen):
                bare = SparseTensor(x.features, x.indices, x.shape, x.batch)
                marks = [time.thread_time()]
                book = module.rulebook(bare)
                marks.append(time.thread_time())
                convolve(bare.features, module.matrices, book)
                marks.append(time.thread_time())
                if others:
                    others[number]()
                    marks.append(time.thread_time())
                else:
                    marks.append(marks[-1] + RECORDED_MS[number] / 1e3)
                samples[number].append((marks[1] - marks[0], marks[2] - marks[0], marks[3] - marks[2]))
            voxels = detector.voxels(*inputs)
            before = time.thread_time()
            detector.backbone(voxels)
            whole.append(time.thread_time() - before)
    layers = []
    for (module, _), each in zip(seen, samples, strict=True):
        book_time, ours, theirs = (float(1e3 * np.median([sample[k] for sample in each])) for k in range(3))
        name = f"submanifold {module.weight.shape[-1]}"
        layers.append({"layer": name, "rulebook": book_time, "ours": ours, "spconv": theirs})
    return layers, float(np.median(whole))


def _spconv() -> Any:
    try:
        import spconv.pytorch as found
        import spconv.pytorch.ops as operators
    except Exception:  # importing spconv fails in many ways where a part of it is missing
        return None
    if not torch.cuda.is_available():
        operators.get_current_stream = lambda: 0
    return found


def _spconv_layers(seen: list[tuple[Any, SparseTensor]]) -> list[Any]:
    """Returns a call for each layer that finds the rulebook and convolves with spconv."""
    spconv = _spconv()
    if spconv is None:
        return []
    found = []
    for module, x in seen:
        channels = module.weight.shape[-1]
        layer = spconv.SubMConv3d(channels, channels, 3, bias=False, algo=spconv.ConvAlgo.Native).eval()
        layer.weight.data.copy_(module.weight)
        indices = x.indices.contiguous().int()

        def call(layer: Any = layer, x: SparseTensor = x, indices: Tensor = indices) -> Any:
            return layer(spconv.SparseConvTensor(x.features, indices, list(x.shape), x.batch))

        got = call().features
        expected = convolve(x.features, module.matrices, module.rulebook(x))
        if float((got - expected).abs().max()) > 1e-3 * float(expected.abs().max()):
            raise WithinError("spconv and Within disagree on the real frame", where=f"{channels} channels")
        found.append(call)
    return found
