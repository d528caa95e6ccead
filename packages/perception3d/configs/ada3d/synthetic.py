"""CenterPoint with SP-BN on synthetic scenes (`within perception3d generate scenes`): some ten minutes on a CPU."""

name = "synthetic"
network = "center_point_small"
data = "scenes"
arguments = dict(norm="spatial_sparse", execution="sparse", reach="stay")
loss = dict(nearest=True, boxes=1.0)
schedule = dict(epochs=4, batch_size=2, rate=4e-3, clip_gradients=35.0, keep_scenes=True)
augmentation = dict(rotation=0.1, scale=(0.97, 1.03))
validate_every = 4
