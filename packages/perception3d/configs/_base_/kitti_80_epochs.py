"""OpenPCDet's schedule for KITTI: Adam in one cycle over 80 epochs, objects of other scenes put in."""

data = "data/kitti"
schedule = dict(
    epochs=80, batch_size=16, rate=3e-3, weight_decay=0.01, rise=0.4, division=10.0, momenta=(0.95, 0.85),
    clip_gradients=10.0, most_voxels=16_000, workers=8,
)  # fmt: skip
augmentation = dict(
    flip=True, rotation=0.78539816, scale=(0.95, 1.05), sample=dict(Car=20, Pedestrian=15, Cyclist=15), least_points=5
)
decoding = dict(least_score=0.1, overlap=0.7, limits=(-75.2, -75.2, -2, 75.2, 75.2, 4))
validate_every = 10
