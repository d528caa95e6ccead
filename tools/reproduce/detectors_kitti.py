"""PointPillars and SECOND on KITTI val as OpenPCDet reports them: 3-D, moderate, 11 recalls."""

title = "Detectors with anchors, KITTI val, 3-D average precision, moderate, 11 recalls, in per cent"
run = "within.perception3d.tables:published_detectors"
data = (
    "a folder with kitti/ (training, ImageSets) and runs/: of `within perception3d train` for "
    "packages/perception3d/configs/kitti/{point_pillars,second}.py, or OpenPCDet's point_pillars.pth and second.pth"
)

rows = [
    {"name": f"{name}, {label}, {where}", "network": network, "weights": weights, "config": config, "data": "kitti",
     "figure": f"{label} R11", "published": published, "origin": "OpenPCDet"}
    for name, network, config, values, files in (
        ("PointPillars", "point_pillars_kitti", "kitti/point_pillars.py", (77.28, 52.29, 62.68),
         (("trained here", "point_pillars_kitti"), ("OpenPCDet's weights", "point_pillars.pth"))),
        ("SECOND", "second_kitti", "kitti/second.py", (78.62, 52.98, 67.15),
         (("trained here", "second_kitti"), ("OpenPCDet's weights", "second.pth"))),
    )
    for where, weights in files
    for label, published in zip(("Car", "Pedestrian", "Cyclist"), values, strict=True)
]  # fmt: skip
