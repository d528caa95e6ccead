"""CenterPoint on ONCE val, as the Ada3D paper reports it."""

title = "ONCE val, in per cent"
run = "within.perception3d.tables:published_detectors"
data = (
    "a folder with once/ (data, ImageSets) and runs/ of `within perception3d train "
    "packages/perception3d/configs/once/center_point.py`"
)

rows = [
    {"name": f"CenterPoint, {figure}", "weights": "center_point_once", "config": "once/center_point.py", "data": "once",
     "figure": figure, "published": published, "origin": "the paper"}
    for figure, published in (("mAP", 63.99), ("Vehicle", 75.69), ("Pedestrian", 49.80), ("Cyclist", 66.48))
]  # fmt: skip
