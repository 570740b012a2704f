/** Compiles src/memory/kernel.wat to src/memory/kernel-wasm.ts: npm run build:kernel. A test checks that the two agree. */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import wabtInit from 'wabt';

const dir = new URL('../../src/memory/', import.meta.url);

export async function compileKernel(): Promise<string> {
  const wabt = await wabtInit();
  const module = wabt.parseWat('kernel.wat', readFileSync(new URL('kernel.wat', dir), 'utf8'), {
    simd: true,
    bulk_memory: true,
  });
  return Buffer.from(module.toBinary({}).buffer).toString('base64');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const base64 = await compileKernel();
  const lines = base64.match(/.{1,100}/g) ?? [];
  const text = [
    '/** Made from kernel.wat by `npm run build:kernel`; not to be edited. */',
    'export const kernelWasm =',
    lines.map((l) => `  '${l}'`).join(' +\n'),
  ].join('\n');
  writeFileSync(new URL('kernel-wasm.ts', dir), `${text};\n`);
}
