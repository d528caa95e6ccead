"""CenterPoint's schedule for nuScenes: Adam in one cycle over 20 epochs, mirrored both ways."""

data = "data/nuscenes"
schedule = dict(
    epochs=20, batch_size=32, rate=1e-3, weight_decay=0.01, rise=0.4, division=10.0, momenta=(0.95, 0.85),
    clip_gradients=35.0, most_voxels=None, workers=8,
)  # fmt: skip
loss = dict(heatmap=1.0, boxes=0.25, velocity=0.2)
augmentation = dict(flip="both", rotation=0.78539816, scale=(0.9, 1.1))
decoding = dict(
    most=500, least_score=0.1, overlap=0.2, before=1000, after=83, limits=(-61.2, -61.2, -10, 61.2, 61.2, 10)
)
validate_every = 5
