"""PVCNN and its baselines (Liu, Tang, Lin, Han, NeurIPS 2019) on S3DIS area 5, ShapeNet and KITTI."""

title = "PVCNN: mean IoU on S3DIS area 5 and ShapeNet, 3-D average precision on KITTI val, in per cent"
run = "within.perception3d.tables:published_points"
data = (
    "a folder with s3dis/ (see `within perception3d prepare`), shapenet/, kitti/ and runs/: of `within perception3d "
    "train` for packages/perception3d/configs/pvcnn, or the authors' checkpoints under the same names"
)

_boxes = "kitti/rgb_detections/rgb_detection_val.txt"
_rooms = (
    ("PointNet", "s3dis_pointnet", 42.97),
    ("PVCNN, 1/8 of the width", "s3dis_pvcnn_c0p125", 48.75),
    ("PVCNN, 1/4 of the width", "s3dis_pvcnn_c0p25", 53.08),
    ("PVCNN", "s3dis_pvcnn_c1", 56.64),
    ("PVCNN++, 1/2 of the width", "s3dis_pvcnn_plus_plus_c0p5", 58.30),
    ("PVCNN++", "s3dis_pvcnn_plus_plus_c1", 59.02),
)
_parts = (
    ("PointNet", "shapenet_pointnet", 83.7),
    ("PointNet++ MSG", "shapenet_pointnet_plus_plus_msg", 85.1),
    ("PVCNN, 1/4 of the width", "shapenet_pvcnn_c0p25", 84.9),
    ("PVCNN, 1/2 of the width", "shapenet_pvcnn_c0p5", 85.5),
    ("PVCNN", "shapenet_pvcnn_c1", 85.8),
)
_frustums = (
    ("frustum PointNet", "frustum_pointnet", (71.63, 56.90, 56.46)),
    ("frustum PointNet++", "frustum_pointnet_plus_plus", (71.99, 60.03, 56.74)),
    ("frustum PVCNN-E", "frustum_pvcnn_e", (72.12, 61.24, 57.45)),
)

rows = [
    {"name": f"S3DIS, {name}", "weights": weights, "config": f"pvcnn/{weights}.py", "data": "s3dis",
     "figure": "mean IoU", "published": published, "origin": "the authors"}
    for name, weights, published in _rooms
]  # fmt: skip
rows += [
    {"name": f"ShapeNet, {name}", "weights": weights, "config": f"pvcnn/{weights}.py", "data": "shapenet",
     "figure": "mean IoU", "published": published, "origin": "the authors"}
    for name, weights, published in _parts
]  # fmt: skip
rows += [
    {"name": f"KITTI, {name}, {label}", "weights": weights, "config": f"pvcnn/{weights}.py", "data": "kitti",
     "settings": {"detections": _boxes}, "figure": f"{label} moderate AP", "published": value,
     "origin": "the authors, mean of 20 seeds"}
    for name, weights, values in _frustums
    for label, value in zip(("Car", "Pedestrian", "Cyclist"), values, strict=True)
]  # fmt: skip
