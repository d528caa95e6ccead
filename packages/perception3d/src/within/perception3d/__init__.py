"""3D detection: sparse convolution, Ada3D, CenterPoint, PVCNN."""
