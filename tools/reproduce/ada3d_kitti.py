"""Ada3D on KITTI val (Zhao et al., ICCV 2023): 3-D precision, moderate, 40 recalls, and what a pass multiplies."""

title = "Ada3D, KITTI val, 3-D average precision, moderate, 40 recalls, in per cent"
run = "within.perception3d.tables:published_detectors"
data = (
    "a folder with kitti/ (training, ImageSets) and runs/ of `within perception3d train CONFIG` for the configurations "
    "of packages/perception3d/configs/kitti/center_point.py and configs/ada3d"
)

rows = [
    {"name": f"{name}, {figure}", "weights": weights, "config": config, "data": "kitti", "figure": figure,
     "published": published, "origin": "the paper"}
    for name, weights, config, values in (
        ("CenterPoint", "center_point_kitti", "kitti/center_point.py", (66.1, 79.4, 53.4, 65.5)),
        ("SP-BN", "ada3d_detector", "ada3d/1_detector.py", (66.0, 79.1, 53.3, 65.6)),
        ("A", "ada3d_a", "ada3d/3_tuning_a.py", (66.4, 79.5, 53.6, 66.1)),
        ("B", "ada3d_b", "ada3d/3_tuning_b.py", (66.1, 79.1, 54.0, 65.3)),
        ("C", "ada3d_c", "ada3d/3_tuning_c.py", (65.4, 77.6, 53.5, 65.1)),
    )
    for figure, published in zip(("mAP", "Car", "Pedestrian", "Cyclist"), values, strict=True)
]  # fmt: skip
