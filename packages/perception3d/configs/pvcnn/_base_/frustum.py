"""Training of the frustum networks on KITTI: 209 epochs of 32 frustums, as PVCNN-E was trained."""

data = "data/kitti"
seed = 1588147245
schedule = dict(epochs=209, batch_size=32, optimizer=dict(type="Adam", lr=1e-3), workers=8)
