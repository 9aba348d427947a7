"""groundup's reference backend: NumPy kernels for every op, device `cpu`."""
