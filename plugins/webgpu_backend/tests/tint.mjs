// Compiles WGSL sources by Tint, without a GPU: reads a JSON list of strings, writes one of errors.
// Needs the npm package `webgpu`.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(process.argv[2] + '/');
const { create, globals } = require('webgpu');
Object.assign(globalThis, globals);
const gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const device = await adapter.requestDevice({ requiredFeatures: ['shader-f16'] });
const found = [];
for (const code of JSON.parse(readFileSync(0, 'utf8'))) {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  const wrong = messages.filter((m) => m.type === 'error');
  const error = await device.popErrorScope();
  if (wrong.length || error) {
    const text = wrong.map((m) => `${m.lineNum}:${m.linePos} ${m.message}`).join('\n');
    found.push(`${text || error.message}\n${code}`);
  }
}
console.log(JSON.stringify(found));
process.exit(0); // Dawn's own threads would keep it alive
