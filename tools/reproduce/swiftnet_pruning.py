"""A pyramidal SwiftNet on ADE20K, cut by stages: rewound (LTH), trained on (FT), random (RI).

The encoder starts from ImageNet: put torchvision's ResNet-34 as resnet34.pth beside the data set's folders and add
pretrained="resnet34.pth" to `training` for it.
"""

title = "Pyramidal SwiftNet, ResNet-34, ADE20K val, cut to half widths, mean IoU in per cent"
run = "within.segmentation.tables:published_study"
data = "ADEChallengeData2016, with images/ and annotations/"

_schedule = dict(epochs=250, batch_size=14, crop=768, scale=(0.5, 2.0), loss="boundary_aware_focal")
study = dict(
    training=dict(
        name="swiftnet_pruning_ade20k",
        network="swiftnet_ade20k",
        schedule=_schedule,
        validation_split="validation",
        checkpoint_every=2000,
    ),
    cuts={"first two blocks": (1, 2), "all four blocks": (1, 2, 3, 4)},
    count_size=(1024, 2048),
)
published = {
    "dense, dense": 33.89,
    "first two blocks, LTH": 32.48,
    "first two blocks, FT": 32.05,
    "first two blocks, RI": 20.39,
    "all four blocks, LTH": 30.55,
    "all four blocks, FT": 31.49,
    "all four blocks, RI": 22.84,
}
