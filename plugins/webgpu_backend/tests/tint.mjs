// Asks Dawn, the WebGPU of Chromium, whether it takes dispatches; no GPU is needed.
// Reads a JSON list: of each its WGSL `code`, the kinds of its `bindings` and for all but the last,
// the parameters, its `memory`: a buffer's number, the first byte, how many. Without memory, only
// its source is compiled. Writes a list of errors. Needs the npm package `webgpu`, in the folder
// given.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const { create, globals } = createRequire(process.argv[2] + '/')('webgpu');
Object.assign(globalThis, globals);
const gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const device = await adapter.requestDevice({ requiredFeatures: ['shader-f16', 'subgroups'] });
const parameters = device.createBuffer({ size: 4096, usage: GPUBufferUsage.UNIFORM });
const buffers = new Map();
const modules = new Map();

function buffer(number) {
  if (!buffers.has(number)) {
    const usage = GPUBufferUsage.STORAGE;
    buffers.set(number, device.createBuffer({ size: 1 << 24, usage }));
  }
  return buffers.get(number);
}

function shader(code) {
  if (!modules.has(code)) modules.set(code, device.createShaderModule({ code }));
  return modules.get(code);
}

function dispatch({ code, bindings, memory }) {
  const layout = device.createBindGroupLayout({
    entries: bindings.map((type, binding) => (
      { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } }
    )),
  });
  const pipeline = device.createComputePipeline({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module: shader(code), entryPoint: 'main' },
  });
  const shown = memory.map(([number, offset, size]) => ({ buffer: buffer(number), offset, size }));
  const resources = [...shown, { buffer: parameters }];
  const entries = resources.map((resource, binding) => ({ binding, resource }));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
  pass.dispatchWorkgroups(1);
  pass.end();
  device.queue.submit([encoder.finish()]);
}

const errors = [];
for (const each of JSON.parse(readFileSync(0, 'utf8'))) {
  device.pushErrorScope('validation');
  if (each.memory) dispatch(each);
  else shader(each.code);
  const error = await device.popErrorScope();
  if (error) errors.push(`${error.message}\n${each.code}`);
}
// Dawn's own threads would keep it alive.
process.stdout.write(JSON.stringify(errors), () => process.exit(0));
