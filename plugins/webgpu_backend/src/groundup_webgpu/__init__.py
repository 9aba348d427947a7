"""groundup's WebGPU backend: WGSL kernels through wgpu, device `webgpu:N`."""
