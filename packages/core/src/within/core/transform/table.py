"""The transforms by name, each with the search that finds its arguments for a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from within.core.transform.batch_norm import batch_norm_folding
from within.core.transform.channels_last import channels_last
from within.core.transform.concat_elimination import concat_elimination, concat_elimination_sites
from within.core.transform.concat_in_place import concat_in_place, concat_in_place_sites
from within.core.transform.detached_views import detached_views, detached_views_sites
from within.core.transform.in_place import in_place
from within.core.transform.liveness import liveness
from within.core.transform.order import minimise_order
from within.core.transform.strips import strips
from within.core.transform.transposed_convolution import transposed_convolution, transposed_convolution_sites

Arguments = dict[str, Any]
Apply = Callable[..., fx.GraphModule]
Search = Callable[[fx.GraphModule, Sequence[Any]], Arguments | None]


@dataclass(frozen=True)
class Transform:
    """One transform.

    Attributes:
        apply: `apply(model, inputs, **arguments)`; arguments are small JSON values.
        search: the arguments for an annotated module, None where the transform has nothing to do.
    """

    apply: Apply
    search: Search


def _always(module: fx.GraphModule, inputs: Sequence[Any]) -> Arguments:
    return {}


def _at_sites(find: Callable[[fx.GraphModule, Sequence[Any]], Any]) -> Search:
    def search(module: fx.GraphModule, inputs: Sequence[Any]) -> Arguments | None:
        sites = find(module, inputs)
        return {"sites": sites} if sites else None

    return search


TABLE: dict[str, Transform] = {
    "liveness": Transform(liveness, _always),
    "channels_last": Transform(channels_last, _always),
    "batch_norm_folding": Transform(batch_norm_folding, _always),
    "in_place": Transform(in_place, _always),
    "transposed_convolution": Transform(transposed_convolution, _at_sites(transposed_convolution_sites)),
    "concat_elimination": Transform(concat_elimination, _at_sites(concat_elimination_sites)),
    "detached_views": Transform(
        detached_views, _at_sites(lambda module, inputs: list(detached_views_sites(module, inputs)))
    ),
    "concat_in_place": Transform(concat_in_place, _at_sites(concat_in_place_sites)),
    "minimise_order": Transform(minimise_order, _always),
    "strips": Transform(strips, _always),
}

TRANSFORMS: dict[str, Apply] = {name: transform.apply for name, transform in TABLE.items()}
"""Every transform by name: `TRANSFORMS[name](model, inputs, **arguments)` returns an `fx.GraphModule`."""
