"""A narrow SwiftNet on CamVid that trains on a laptop: 0.84 million parameters, about ten minutes of one core."""

name = "swiftnet_rn18_camvid"
network = "swiftnet_rn18"
arguments = dict(classes=11, width=16, features=64, mean=(105.03, 108.41, 110.33), deviation=(69.90, 72.69, 72.13))
data = "data/CamVid"
size = (300, 400)
validate_every = 10
schedule = dict(
    epochs=40,
    batch_size=6,
    crop=(240, 320),
    scale=(0.85, 1.5),
    brightness=0.3,
    colour=0.1,
    optimizer=dict(type="AdamW", lr=1.5e-3, weight_decay=1e-4),
    encoder_factor=1.0,
    balance=1.05,
    loss_stride=2,
    ema=0.98,
    clip_gradients=5.0,
)
