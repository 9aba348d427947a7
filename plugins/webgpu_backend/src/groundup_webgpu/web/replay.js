// Does what a tape says, on any WebGPU: tape.py tells what there is on it.

const STORAGE = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
const SLOT = 256; // bytes at whose multiples parameters may begin

/** A device for the tape. Throws an Error that says what is missing. */
export async function deviceFor(tape) {
  if (!navigator.gpu) throw new Error('this browser has no WebGPU');
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) throw new Error('there is no adapter: no driver for a GPU, or WebGPU is off');
  const half = tape.kernels.some(({ code }) => code.startsWith('enable f16'));
  if (half && !adapter.features.has('shader-f16')) throw new Error('the adapter has no float16');
  return adapter.requestDevice({ requiredFeatures: half ? ['shader-f16'] : [] });
}

/** The bytes of every `read`, in order. Throws what WebGPU has against the tape. */
export async function replay(device, tape) {
  device.pushErrorScope('validation');
  const kernels = await Promise.all(tape.kernels.map((kernel) => compiled(device, kernel)));
  const buffers = tape.buffers.map((size) => device.createBuffer({ size, usage: STORAGE }));
  const groups = bound(device, tape, kernels, buffers);
  const reads = encoded(device, tape, kernels, buffers, groups);
  const error = await device.popErrorScope();
  if (error) throw new Error(error.message);
  return Promise.all(reads.map(mapped));
}

async function compiled(device, { code, bindings }) {
  const layout = device.createBindGroupLayout({
    entries: bindings.map((type, binding) => (
      { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } }
    )),
  });
  const pipeline = await device.createComputePipelineAsync({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module: device.createShaderModule({ code }), entryPoint: 'main' },
  });
  return { layout, pipeline };
}

/** The bind group of each dispatch. All parameters lie in one buffer. */
function bound(device, { steps }, kernels, buffers) {
  const runs = steps.filter((step) => 'run' in step);
  const sizes = runs.map(({ parameters }) => Math.ceil(parameters.length * 4 / SLOT) * SLOT);
  const size = sizes.reduce((sum, each) => sum + each, 0) || SLOT;
  const usage = GPUBufferUsage.UNIFORM;
  const all = device.createBuffer({ size, usage, mappedAtCreation: true });
  const numbers = new Int32Array(all.getMappedRange());
  let offset = 0;
  const groups = runs.map(({ run, memory, parameters }, i) => {
    numbers.set(parameters, offset / 4);
    const shown = memory.map(([b, start, count]) => (
      { buffer: buffers[b], offset: start, size: count }
    ));
    const resources = [...shown, { buffer: all, offset, size: sizes[i] }];
    offset += sizes[i];
    const entries = resources.map((resource, binding) => ({ binding, resource }));
    return device.createBindGroup({ layout: kernels[run].layout, entries });
  });
  all.unmap();
  return groups;
}

/** Submits all steps; returns what was read, still to be mapped. */
function encoded(device, { steps }, kernels, buffers, groups) {
  const reads = [];
  let next = 0;
  let encoder = null;
  let pass = null;
  const opened = () => (encoder ??= device.createCommandEncoder());
  const endPass = () => { pass?.end(); pass = null; };
  const submit = () => {
    endPass();
    if (encoder) device.queue.submit([encoder.finish()]);
    encoder = null;
  };
  for (const step of steps) {
    if ('run' in step) {
      pass ??= opened().beginComputePass();
      pass.setPipeline(kernels[step.run].pipeline);
      pass.setBindGroup(0, groups[next++]);
      pass.dispatchWorkgroups(...step.groups);
    } else if ('write' in step) {
      submit();
      device.queue.writeBuffer(buffers[step.write], step.offset, bytes(step.data));
    } else {
      const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ;
      const staging = device.createBuffer({ size: step.nbytes, usage });
      endPass();
      opened().copyBufferToBuffer(buffers[step.read], step.offset, staging, 0, step.nbytes);
      reads.push(staging);
    }
  }
  submit();
  return reads;
}

async function mapped(staging) {
  await staging.mapAsync(GPUMapMode.READ);
  return new Uint8Array(staging.getMappedRange());
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
