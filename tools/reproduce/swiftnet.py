"""SwiftNet on Cityscapes (Orsic et al., CVPR 2019): a checkpoint of the authors' code, or one trained here."""

title = "SwiftNet, ResNet-18, one scale, Cityscapes val, mean IoU in per cent"
run = "within.segmentation.tables:published_weights"
data = (
    "a folder with cityscapes/ (leftImg8bit, gtFine) and weights/ with the state saved by orsic/swiftnet's "
    "configs/rn18_single_scale.py as swiftnet_rn18_cityscapes.pt, or model.safetensors of "
    "`within segmentation train packages/segmentation/configs/swiftnet/rn18_single_scale.py` as "
    "swiftnet_rn18_trained.safetensors"
)

rows = [
    {
        "name": name,
        "network": "swiftnet_rn18",
        "weights": weights,
        "data": "cityscapes",
        "split": "val",
        "published": 75.4,
        "origin": "the authors",
    }
    for name, weights in (
        ("the authors' weights", "swiftnet_rn18_cityscapes.pt"),
        ("trained here", "swiftnet_rn18_trained.safetensors"),
    )
]
