"""Training of the networks for parts of ShapeNet's objects: 32 objects a step, as PVCNN was trained."""

data = "data/shapenet/shapenetcore_partanno_segmentation_benchmark_v0_normal"
seed = 1588147245
schedule = dict(epochs=250, batch_size=32, optimizer=dict(type="Adam", lr=1e-3), workers=8)
