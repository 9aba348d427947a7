"""groundup's CUDA backend: CUDA C++ kernels on NVIDIA GPUs, through CuPy. Device `cuda:N`."""
