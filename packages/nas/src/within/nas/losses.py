"""What predictors are trained by: regression, or the order of pairs and lists.

With scores s and accuracies y in [0, 1]:

    mse         (sigmoid(s) - y)^2
    hinge       max(0, m - t (s_j - s_i)),  t = sign(y_j - y_i), of pairs i < j
    bce         cross entropy of sigmoid(s_j - s_i) with [y_j > y_i], of pairs
    listmle     -log of the probability of the true order under the Plackett-Luce model, of lists, over their length

Ning et al.: GATES, ECCV 2020, section 3.3; Xia et al.: Listwise approach to learning to rank, ICML 2008.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

MARGIN = 0.1
PAIRS_OF_EACH = 4.0
DRAWS = 2


def pairs(labels: Float[Tensor, " batch"], threshold: float = 0.0) -> Int64[Tensor, "2 pairs"]:
    """Returns pairs i < j whose labels differ by more than a threshold; at most four times the batch, drawn evenly."""
    count, most = len(labels), int(PAIRS_OF_EACH * len(labels))
    if count * (count - 1) > 2 * DRAWS * most:  # drawing is faster than listing; what repeats or ties is dropped
        drawn = torch.randint(count, (2, DRAWS * most), device=labels.device)
        codes = (drawn.amin(0) * count + drawn.amax(0)).unique()
        found = _apart(codes[torch.randperm(len(codes), device=labels.device)], labels, threshold)
        if found.shape[1] >= most:
            return found[:, :most]
    first, second = torch.triu_indices(count, count, 1, device=labels.device)
    found = _apart(first * count + second, labels, threshold)
    if found.shape[1] > most:
        found = found[:, torch.randperm(found.shape[1], device=labels.device)[:most]]
    return found


def _apart(codes: Tensor, labels: Tensor, threshold: float) -> Tensor:
    first, second = codes // len(labels), codes % len(labels)
    return torch.stack([first, second])[:, (labels[first] - labels[second]).abs() > threshold]


def mse(scores: Float[Tensor, " batch"], labels: Float[Tensor, " batch"]) -> Tensor:
    """Returns the mean squared error of the sigmoid of the scores."""
    return F.mse_loss(torch.sigmoid(scores), labels)


def hinge(scores: Float[Tensor, " batch"], labels: Float[Tensor, " batch"], margin: float = MARGIN) -> Tensor:
    """Returns the mean hinge loss of pairs; zero when no labels differ."""
    return hinge_of_pairs(scores, labels, pairs(labels), margin)


def hinge_of_pairs(
    scores: Float[Tensor, " batch"],
    labels: Float[Tensor, " batch"],
    chosen: Int64[Tensor, "2 pairs"],
    margin: float = MARGIN,
) -> Tensor:
    """Returns the mean hinge loss of given pairs; zero when there are none."""
    first, second = chosen
    if not len(first):
        return scores.sum() * 0
    sign = torch.sign(labels[second] - labels[first])
    return F.relu(margin - sign * (scores[second] - scores[first])).mean()


def bce(scores: Float[Tensor, " batch"], labels: Float[Tensor, " batch"]) -> Tensor:
    """Returns the mean cross entropy of the order of pairs; zero when no labels differ."""
    first, second = pairs(labels)
    if not len(first):
        return scores.sum() * 0
    return F.binary_cross_entropy_with_logits(
        scores[second] - scores[first], (labels[second] > labels[first]).to(scores.dtype)
    )


def listmle(scores: Float[Tensor, " batch"], labels: Float[Tensor, " batch"], length: int = 10) -> Tensor:
    """Returns the mean loss of lists of so many, drawn without replacement; shorter ones when there are fewer."""
    length = min(length, len(scores))
    order = torch.randperm(len(scores), device=scores.device)[: len(scores) // length * length].view(-1, length)
    ranked = order.gather(1, labels[order].argsort(1, descending=True))
    values = scores[ranked]
    rest = torch.logcumsumexp(values.flip(1), dim=1).flip(1)
    return (rest - values).mean()
