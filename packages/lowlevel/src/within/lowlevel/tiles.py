"""Run a network tile by tile on an image that does not fit into memory at once, as `tile_plan` lays it out.

Every tile goes through the traced operators, so that each tensor is freed after its last use and the predicted peak
holds. What the tiles overlap in is computed twice and thrown away once; nothing is blended.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.core.device.memory import GraphExecutor, graph_module
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.progress import track
from within.lowlevel.models.padding import crop, pad_to_multiple
from within.lowlevel.tile_plan import TilePlan, plan

__all__ = ["TilePlan", "plan", "run_tiled", "tiled"]

Tiled = Callable[[Float[Tensor, "1 channels height width"]], Float[Tensor, "1 out_channels out_height out_width"]]


def run_tiled(
    model: nn.Module, image: Float[Tensor, "1 channels height width"], plan: TilePlan, *others: Tensor
) -> Float[Tensor, "1 out_channels out_height out_width"]:
    """Returns the network's output for an image, computed tile by tile in evaluation mode, without gradients.

    Arguments:
        model: the network that the plan was made for.
        image: of the plan's height, width and channels; one image.
        others: further inputs of the model, the same for every tile: one value each, no maps.

    Raises:
        WithinError: when the image is of another size, or a further input is a map.
    """
    return tiled(model, plan, *others)(image)


def tiled(model: nn.Module, plan: TilePlan, *others: Tensor) -> Tiled:
    """Traces a network once and returns the function that runs it by tiles, for several images of one size.

    Arguments and errors as for `run_tiled`.
    """
    if any(value.ndim > 2 and math.prod(value.shape[2:]) > 1 for value in others):
        raise WithinError("A further input is a map, which tiles do not cut", todo="give one value an image")
    like = next((value for value in model.parameters() if value.is_floating_point()), torch.empty(0))
    traced = trace(model, (like.new_empty(1, plan.channels, *plan.window), *others))
    module = graph_module(traced.program, [*traced.inputs])

    def run(image: Float[Tensor, "1 channels height width"]) -> Float[Tensor, "1 out_channels out_height out_width"]:
        expected = (1, plan.channels, plan.height, plan.width)
        if tuple(image.shape) != expected:
            raise WithinError(
                f"The plan is for an image of {expected} (batch, channels, height, width), not {tuple(image.shape)}",
                todo="make a plan for this image; give images one by one",
            )
        with torch.no_grad():
            return _run(lambda part: GraphExecutor(module).run(part, *others), image, plan)

    return run


def _run(network: Callable[[Tensor], Tensor], image: Tensor, plan: TilePlan) -> Tensor:
    scale, (height, width) = plan.scale, plan.window
    output: Tensor | None = None
    for row, column in track(list(plan.tiles()), "tiles"):
        part = image[..., row.window : row.window + height, column.window : column.window + width]
        result = network(pad_to_multiple(part, plan.size_multiple).contiguous())
        if plan.rows * plan.columns == 1:
            return crop(result, plan.height * scale, plan.width * scale)
        if output is None:
            output = result.new_empty(*result.shape[:2], plan.height * scale, plan.width * scale)
        output[..., row.start * scale : row.end * scale, column.start * scale : column.end * scale] = result[
            ...,
            (row.start - row.window) * scale : (row.end - row.window) * scale,
            (column.start - column.window) * scale : (column.end - column.window) * scale,
        ]
        del result  # the next tile's tensors come in its place
    assert output is not None
    return output
