"""ESPNet's published weights (sacmehta/ESPNet): what each tensor of theirs is called here."""

from __future__ import annotations

from pathlib import Path

from within.segmentation.models.espnet import ESPNet
from within.segmentation.weights.layout import load_published

_DILATIONS = tuple((rf"\.d{2**number}\.conv\.", f".transform.{number}.") for number in range(5))

RENAMES = (
    (r"^encoder\.classifier\.conv\.", "scores_eighth."),
    (r"^encoder\.", ""),
    (r"^level1\.", "stem."),
    (r"^b1\.", "join_half."),
    (r"^b2\.", "join_quarter."),
    (r"^b3\.", "join_eighth."),
    (r"^level2_0\.", "enter_quarter."),
    (r"^level2\.", "quarter."),
    (r"^level3_0\.", "enter_eighth."),
    (r"^level3\.", "eighth."),
    (r"^br\.", "norm_eighth."),
    (r"^up_l3\.0\.", "up_to_quarter."),
    (r"^level3_C\.conv\.", "scores_quarter."),
    (r"^combine_l2_l3\.0\.", "join_scores."),
    (r"^combine_l2_l3\.1\.", "merge_quarter."),
    (r"^up_l2\.0\.", "up_to_half."),
    (r"^up_l2\.1\.", "norm_half."),
    (r"^conv\.", "merge_half."),
    (r"^classifier\.", "head."),
    *_DILATIONS,
    (r"\.c1\.conv\.", ".reduce."),
    (r"^(stem|merge_half)\.conv\.", r"\1.convolution."),
    # Of the modules of residual kind `bn` holds normalisation and slopes; elsewhere the two lie side by side.
    (r"^((?:quarter|eighth)\.\d+|merge_quarter)\.bn\.", r"\1."),
    (r"^(stem|merge_half|enter_\w+|quarter\.\d+|eighth\.\d+|merge_quarter)\.(bn|act)\.", r"\1.normalised.\2."),
    (r"\.bn\.", ".norm."),
    (r"\.act\.", ".activation."),
)


def load_espnet(model: ESPNet, path: str | Path) -> None:
    """Copies a checkpoint of sacmehta/ESPNet, or the state of an `ESPNet`, into a model.

    Arguments:
        model: of the same p, q, number of outputs and skip: the CamVid file has `skip="features_and_image"`.
        path: a .safetensors or .pth file; nothing in it is ever executed.

    Raises:
        WithinError: when the file is missing or damaged, or its tensors are not those of the model or hold NaN; the
            model is then as it was.
    """
    load_published(model, path, RENAMES)
