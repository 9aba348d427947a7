"""A backend of groundup whose kernels are compiled by Numba: the device `numba`."""
