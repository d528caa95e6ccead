"""Pruning by stages, as the SwiftNet study does it: every width of the named stages by one fraction.

Within a stage all convolutions are cut, those inside the blocks each by its own scores, those that meet in the residual
sums together. The stem is added to the first stage's sums, so it is cut with that stage. Laterals, decoder and class
scores keep their widths.

    score(i) = sum over the convolutions of a group of ||w_i||_1
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.graph import ChannelGroup, Graph, trace
from within.core.graph.producers import producers
from within.core.pruning import Plan, PruneResult, prune
from within.segmentation.models.resnet_encoder import ResNetEncoder

STAGES = (1, 2, 3, 4)
ENCODER = "encoder"


def prune_stages(
    model: nn.Module,
    inputs: Sequence[Tensor],
    stages: Sequence[int] = STAGES,
    fraction: float = 0.5,
    *,
    importance: str = "filter_l1",
    plan: Plan | None = None,
) -> PruneResult:
    """Cuts stages of a SwiftNet to a fraction of their widths.

    Arguments:
        model: a SwiftNet on a ResNet; it is not modified.
        inputs: an example image, (batch, 3, height, width).
        stages: numbers 1 to 4.
        fraction: of every width.
        importance: "filter_l1" is the study's; see `prune`.
        plan: the plan that made `model`, if it was already compressed.

    Raises:
        WithinError: when a stage does not exist, or as `prune` does.
    """
    if not isinstance(getattr(model, "encoder", None), ResNetEncoder):
        raise WithinError(
            "Only a SwiftNet with a ResNet as its encoder is cut by stages",
            where=type(model).__name__,
            todo="give budgets instead",
        )
    widths = stage_widths(trace(model, inputs), stages, fraction)
    return prune(model, inputs, widths=widths, importance=importance, protect=["logits"], step=1, plan=plan)


def stage_widths(graph: Graph, stages: Sequence[int], fraction: float) -> dict[str, float]:
    """Returns the fraction for every channel group of these stages, by group name.

    Raises:
        WithinError: when a stage does not exist or has nothing to cut.
    """
    widths = {}
    for stage in stages:
        if stage not in STAGES:
            raise WithinError(f"There is no stage {stage!r}", todo="choose among 1, 2, 3 and 4")
        found = [group.name for group in graph.channel_groups() if _stage_of(graph, group) == stage]
        if not found:
            raise WithinError(f"Stage {stage} has no channels that may be cut", where="encoder")
        widths |= dict.fromkeys(found, float(fraction))
    return widths


def _stage_of(graph: Graph, group: ChannelGroup) -> int | None:
    """Returns the stage (1 to 4) that produces a group; the stem belongs to stage 1."""
    stages = set()
    for member in producers(graph, group):
        path = member.tensor.split(".")
        if path[0] != ENCODER:
            return None
        stages.add(int(path[2]) + 1 if path[1] == "stages" else 1)
    return max(stages, default=None)
