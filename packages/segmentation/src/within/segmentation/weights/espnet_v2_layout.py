"""ESPNetv2's published segmentation weights (sacmehta/EdgeNets): what each tensor of theirs is called here."""

from __future__ import annotations

from pathlib import Path

from within.segmentation.models.espnet_v2 import ESPNetV2
from within.segmentation.weights.layout import load_published

RENAMES = (
    (r"^base_net\.", ""),
    (r"^level1\.", "stem."),
    (r"^level2_0\.", "enter_quarter."),
    (r"^level3_0\.", "enter_eighth."),
    (r"^level3\.", "eighth."),
    (r"^level4_0\.", "enter_sixteenth."),
    (r"^level4\.", "sixteenth."),
    # The encoder's units.
    (r"^(enter_\w+)\.eesp\.module_act\.weight$", r"\1.unused_slopes"),
    (r"^(enter_\w+)\.eesp\.", r"\1.pyramid."),
    (r"^(enter_\w+)\.inp_reinf\.0\.", r"\1.image_features."),
    (r"^(enter_\w+)\.inp_reinf\.1\.conv\.", r"\1.image_expand."),
    (r"^(enter_\w+)\.inp_reinf\.1\.bn\.", r"\1.image_norm."),
    (r"^(enter_\w+)\.act\.", r"\1.activation."),
    (r"^((?:eighth|sixteenth)\.\d+)\.module_act\.", r"\1.activation."),
    (r"^((?:eighth|sixteenth)\.\d+)\.(?!activation|pyramid)", r"\1.pyramid."),
    (r"\.pyramid\.spp_dw\.(\d)\.conv\.", r".pyramid.transform.\1."),
    (r"\.pyramid\.proj_1x1\.", ".pyramid.reduce."),
    (r"\.pyramid\.br_after_cat\.", ".pyramid.normalised."),
    (r"\.pyramid\.conv_1x1_exp\.conv\.", ".pyramid.expand."),
    (r"\.pyramid\.conv_1x1_exp\.bn\.", ".pyramid.norm."),
    (r"^(stem|.*\.reduce|.*\.image_features)\.conv\.", r"\1.convolution."),
    (r"^(stem|.*\.reduce|.*\.image_features)\.(bn|act)\.", r"\1.normalised.\2."),
    # The decoder, which counts its levels from the deepest up.
    (r"^bu_dec_l1\.", "pool_sixteenth."),
    (r"^bu_dec_l2\.", "pool_eighth."),
    (r"^bu_dec_l3\.", "pool_quarter."),
    (r"^bu_dec_l4\.", "head."),
    (r"^merge_enc_dec_l2\.", "shortcut_eighth."),
    (r"^merge_enc_dec_l3\.", "shortcut_quarter."),
    (r"^merge_enc_dec_l4\.", "shortcut_half."),
    (r"^bu_br_l2\.", "join_eighth."),
    (r"^bu_br_l3\.", "join_quarter."),
    (r"^bu_br_l4\.", "join_half."),
    (r"\.projection_layer\.cbr\.", ".reduce."),
    (r"\.stages\.", ".scales."),
    (r"\.merge_layer\.0\.br\.", ".normalised."),
    (r"\.merge_layer\.2\.cbr\.", ".merge."),
    (r"\.merge_layer\.3\.", ".expand."),
    (r"\.br\.br\.", ".out_normalised."),
    (r"\.wt_layer\.1\.", ".gate."),
    (r"\.expansion_layer\.cbr\.", ".project."),
    (r"^(\w+\.(?:reduce|merge|project))\.0\.", r"\1.convolution."),
    (r"^(\w+\.(?:reduce|merge|project))\.1\.", r"\1.normalised.norm."),
    (r"^(\w+\.(?:reduce|merge|project))\.2\.", r"\1.normalised.activation."),
    (r"^(join_\w+|\w+\.(?:out_)?normalised)\.0\.", r"\1.norm."),
    (r"^(join_\w+|\w+\.(?:out_)?normalised)\.1\.", r"\1.activation."),
    (r"\.bn\.", ".norm."),
    (r"\.act\.", ".activation."),
)


def load_espnet_v2(model: ESPNetV2, path: str | Path) -> None:
    """Copies a segmentation checkpoint of sacmehta/EdgeNets, or the state of an `ESPNetV2`, into a model.

    Arguments:
        model: of the same scale and number of outputs.
        path: a .safetensors or .pth file; nothing in it is ever executed.

    Raises:
        WithinError: when the file is missing or damaged, or its tensors are not those of the model or hold NaN; the
            model is then as it was.
    """
    load_published(model, path, RENAMES)
