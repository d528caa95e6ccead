"""ESPNet (Mehta et al., ECCV 2018) on CamVid and ESPNetv2 (CVPR 2019) on Cityscapes: published checkpoints."""

title = "ESPNet on CamVid and ESPNetv2 on Cityscapes, mean IoU in per cent"
run = "within.segmentation.tables:published_weights"
data = (
    "a folder with weights/, camvid/ (SegNet split) and cityscapes/; weights from github.com/sacmehta/ESPNet "
    "(pretrained/decoder/espnet_p_2_q_8_camvid.pth) and sacmehta/EdgeNets"
)

_camvid = {"network": "espnet_camvid", "weights": "espnet_p2_q8_camvid.safetensors", "data": "camvid"}
_measured = "these weights on JPEG copies (quality 90) of the images, by the independent evaluation that set this up"

rows = [
    {
        "name": "ESPNet, CamVid test",
        **_camvid,
        "split": "test",
        "void": "V1",
        "published": 55.64,
        "origin": "the authors",
    },
    *(
        {
            "name": "ESPNet, CamVid val",
            **_camvid,
            "split": "val",
            "void": void,
            "published": figure,
            "origin": _measured,
        }
        for void, figure in (("V0", 70.02), ("V1", 68.58), ("V2", 71.34))
    ),
    *(
        {
            "name": f"ESPNetv2 {scale}, Cityscapes val",
            "network": f"espnet_v2_s{scale}",
            "weights": f"espnetv2_s{scale}_cityscapes_1024x512.safetensors",
            "data": "cityscapes",
            "split": "val",
            "size": (512, 1024),
            "published": figure,
            "origin": "the authors",
        }
        for scale, figure in ((0.5, 53.9), (1.0, 60.1), (1.5, 63.8))
    ),
]
