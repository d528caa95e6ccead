"""Training of the networks for S3DIS, area 5 held out: 50 epochs of 32 blocks, cosine, as PVCNN was trained.

`data` is a folder that `within.perception3d.data.s3dis_blocks.prepare_rooms` wrote, or PointCNN's HDF5 files.
"""

data = "data/s3dis"
holdout = 5
seed = 1588147245
schedule = dict(epochs=50, batch_size=32, optimizer=dict(type="Adam", lr=1e-3, weight_decay=1e-5), workers=8)
