"""The published schedule: Adam, the encoder at a quarter of the rate, cosine over 250 epochs, crops of 768."""

schedule = dict(
    epochs=250,
    batch_size=14,
    crop=768,
    scale=(0.5, 2.0),
    optimizer=dict(type="Adam", lr=4e-4, betas=(0.9, 0.99), weight_decay=1e-4),
    encoder_factor=0.25,
    least_rate=1e-6,
    loss="cross_entropy",
)
validate_every = 4
