"""PVCNN: point-voxel convolution, with its PointNet and PointNet++ baselines."""
