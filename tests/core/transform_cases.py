"""Small networks that give each memory transform something to do or something to break, and what must hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from tests.core.networks import Function, conv, seeded
from torch import Tensor, fx, nn

from within.core.device.memory import live_graph_measured
from within.core.transform.editable import annotate
from within.core.transform.lifetimes import lifetimes

TOLERANCE = 1e-5


def images(*sizes: tuple[int, ...], seed: int = 1) -> tuple[Tensor, ...]:
    """Random images, one of each size (channels, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(1, *size, generator=generator) for size in sizes)


def _unet(m: Any, x: Tensor) -> Tensor:
    """Padded to an even size, cropped at the end; a skip over a transposed convolution."""
    height, width = x.shape[-2:]
    x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    skip = F.relu(m.norm(m.first(x)))
    deep = F.relu(m.down(skip))
    joined = torch.cat([m.up(deep), skip], 1)
    return m.last(F.relu(m.join(joined)))[..., :height, :width]


def _distilled(m: Any, x: Tensor) -> Tensor:
    """Slices held to the end, as in IMDN, and a gate by means of the concatenation."""
    kept, rest = torch.split(F.leaky_relu(m.a(x), 0.05), [2, 6], 1)
    more, rest = torch.split(F.leaky_relu(m.b(rest), 0.05), [2, 6], 1)
    joined = torch.cat([kept, more, m.c(rest)], 1)
    gate = torch.sigmoid(m.gate(joined.mean((2, 3), keepdim=True)))
    return m.last(joined * gate) + x[:, :2]


def _dense(m: Any, x: Tensor) -> Tensor:
    """Each layer reads all before it; normalisation before the convolution."""
    found = [m.stem(x)]
    for layer, norm in ((m.a, m.norm_a), (m.b, m.norm_b), (m.c, m.norm_c)):
        found.append(layer(F.relu(norm(torch.cat(found, 1)))))
    return m.last(torch.cat(found, 1))


def _curves(m: Any, x: Tensor) -> Tensor:
    """Concatenated skips and a sum in the caller's colours, as in DCE-Net."""
    a = F.relu(m.a(x))
    b = F.relu(m.b(a))
    c = F.relu(m.c(torch.cat([b, a], 1)))
    r = torch.tanh(m.d(torch.cat([a, c], 1)))
    for curve in torch.split(r, 3, 1):
        x = x + curve * (torch.pow(x, 2) - x)
    return x


def _shared(m: Any, x: Tensor) -> Tensor:
    """One convolution and one normalisation, called three times."""
    y = m.stem(x)
    for _ in range(3):
        y = y + F.relu(m.norm(m.block(y)))
    return m.last(y)


def _views(m: Any, x: Tensor) -> Tensor:
    """Attention over rows: views, permutations and copies of one storage."""
    y = m.stem(x)
    batch, channels, height, width = y.shape
    tokens = y.view(batch, channels, height * width).transpose(1, 2)
    mixed = m.mix(tokens).transpose(1, 2).reshape(batch, channels, height, width)
    return m.last(F.gelu(mixed) * y.sigmoid())


def _branches(m: Any, x: Tensor) -> Tensor:
    """Wide branches that are reduced to narrow ones; the order of execution matters."""
    wide = [F.relu(layer(x)) for layer in (m.a, m.b, m.c)]
    narrow = [layer(y) for layer, y in zip((m.d, m.e, m.f), wide, strict=True)]
    return m.last(narrow[0] * narrow[1] + narrow[2])


def _outputs(m: Any, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Two inputs; outputs that are intermediate values, views, and inputs."""
    first = F.relu(m.a(x))
    second = F.relu(m.b(first) + y)
    return {"first": first, "pair": (second, second[:, :1]), "last": m.c(torch.sigmoid(second)), "given": x}


def _written(m: Any, x: Tensor) -> Tensor:
    """In-place operators of the model's own, one on a slice that a later reader sees."""
    y = m.a(x)
    F.relu(y, inplace=True)
    y[:, :2] += 1
    z = F.relu(m.b(y))
    z.mul_(y)
    return m.c(torch.cat([z, y], 1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "unet": (
        lambda: Function(
            _unet,
            first=conv(3, 6, bias=False),
            norm=nn.BatchNorm2d(6),
            down=nn.Conv2d(6, 8, 3, stride=2, padding=1),
            up=nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
            join=conv(12, 6),
            last=conv(6, 3),
        ),
        ((3, 17, 23),),
    ),
    "distilled": (
        lambda: Function(_distilled, a=conv(3, 8), b=conv(6, 8), c=conv(6, 2), gate=conv(6, 6, 1), last=conv(6, 2, 1)),
        ((3, 15, 21),),
    ),
    "dense": (
        lambda: Function(
            _dense,
            stem=conv(3, 4),
            a=conv(4, 4, bias=False),
            b=conv(8, 4, bias=False),
            c=conv(12, 4, bias=False),
            norm_a=nn.BatchNorm2d(4),
            norm_b=nn.BatchNorm2d(8),
            norm_c=nn.BatchNorm2d(12),
            last=conv(16, 3, 1),
        ),
        ((3, 13, 18),),
    ),
    "curves": (lambda: Function(_curves, a=conv(3, 8), b=conv(8, 8), c=conv(16, 8), d=conv(16, 6)), ((3, 19, 12),)),
    "shared": (
        lambda: Function(_shared, stem=conv(3, 5), block=conv(5, 5), norm=nn.BatchNorm2d(5), last=conv(5, 1)),
        ((3, 16, 11),),
    ),
    "views": (lambda: Function(_views, stem=conv(3, 6), mix=nn.Linear(6, 6), last=conv(6, 2)), ((3, 9, 14),)),
    "branches": (
        lambda: Function(
            _branches,
            a=conv(3, 12),
            b=conv(3, 12),
            c=conv(3, 12),
            d=conv(12, 2, 1),
            e=conv(12, 2, 1),
            f=conv(12, 2, 1),
            last=conv(2, 3),
        ),
        ((3, 14, 15),),
    ),
    "outputs": (lambda: Function(_outputs, a=conv(3, 5), b=conv(5, 5), c=conv(5, 2)), ((3, 11, 13), (5, 11, 13))),
    "written": (lambda: Function(_written, a=conv(3, 6), b=conv(6, 6), c=conv(12, 2)), ((3, 12, 17),)),
}


def case(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network in eval mode with random weights and statistics, and inputs of an odd size."""
    build, sizes = NETWORKS[name]
    return seeded(build()), images(*sizes)


def run(model: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The output tensors of a model, on copies of the inputs that it must not change."""
    given = tuple(item.clone() for item in inputs)
    with torch.no_grad():
        found = [leaf.clone() for leaf in torch.utils._pytree.tree_leaves(model(*given))]
    for before, after in zip(inputs, given, strict=True):
        assert torch.equal(before, after), "an input was overwritten"
    return found


def assert_same(module: nn.Module, model: nn.Module, inputs: Sequence[Tensor], tolerance: float = TOLERANCE) -> None:
    """The outputs agree, to `tolerance` of the largest value of each, twice in a row."""
    reference = run(model, inputs)
    for _ in range(2):
        found = run(module, inputs)
        assert len(found) == len(reference)
        for ours, theirs in zip(found, reference, strict=True):
            assert ours.shape == theirs.shape
            assert ours.dtype == theirs.dtype
            if theirs.numel():
                ours, theirs = ours.double(), theirs.double()  # masks too
                difference = float((ours - theirs).abs().max())
                assert difference <= tolerance * max(1.0, float(theirs.abs().max())), difference


def predicted(module: fx.GraphModule, inputs: Sequence[Tensor]) -> int:
    """live_graph of a graph module as the transforms see it, in bytes."""
    annotate(module, inputs)
    peak = lifetimes(module).peak
    for node in module.graph.nodes:
        node.meta.pop("val", None)
    return peak


def counted(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """live_graph by the storage counter on a real run, in bytes."""
    return live_graph_measured(module.eval(), list(inputs), compute=True).bytes
