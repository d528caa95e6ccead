"""CenterPoint and Ada3D on nuScenes val, as the Ada3D paper and its talk report them."""

title = "nuScenes val, in per cent"
run = "within.perception3d.tables:published_detectors"
data = (
    "a folder with nuscenes/ (samples, sweeps, nuscenes_infos_val.pkl of MMDetection3D) and runs/ of `within "
    "perception3d train` for packages/perception3d/configs/nuscenes"
)

rows = [
    {"name": f"{name}, {figure}", "weights": weights, "config": config, "data": "nuscenes", "figure": figure,
     "published": published, "origin": "the paper"}
    for name, weights, config, values in (
        ("CenterPoint, pillars", "center_point_nuscenes_pillars", "nuscenes/center_point_pillars.py", (50.03, 60.70)),
        ("CenterPoint, 0.1 m", "center_point_nuscenes", "nuscenes/center_point_010.py", (55.43, 64.63)),
        ("CenterPoint, 0.075 m", "center_point_nuscenes_0075", "nuscenes/center_point_0075.py", (59.22, 66.48)),
        ("Ada3D, 0.075 m", "ada3d_nuscenes", "nuscenes/ada3d_3_tuning.py", (58.62, 65.68)),
    )
    for figure, published in zip(("mAP", "NDS"), values, strict=True)
]  # fmt: skip
