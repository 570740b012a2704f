/** Compiles kernel/kernel.ts to src/memory/kernel-wasm.ts: npm run build:kernel. A test checks that the two agree. */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = new URL('../../', import.meta.url);

/** The kernel's WebAssembly, in base64. Throws with the compiler's messages. */
export async function compileKernel(): Promise<string> {
  let binary: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    [
      'kernel/kernel.ts',
      '--outFile=kernel.wasm',
      '-O3',
      '--noAssert',
      '--runtime=stub',
      '--importMemory',
      '--initialMemory=1',
      '--maximumMemory=65536',
      '--memoryBase=0',
      '--enable=simd,bulk-memory',
    ],
    {
      readFile: (name: string) => {
        try {
          return readFileSync(new URL(name, root), 'utf8');
        } catch {
          return null;
        }
      },
      writeFile: (name: string, contents: Uint8Array | string) => {
        if (name.endsWith('.wasm') && typeof contents !== 'string') binary = contents;
      },
      listFiles: () => null,
    },
  );
  if (error !== null || binary === undefined) throw new Error(`the kernel does not compile:\n${stderr.toString()}`);
  return Buffer.from(binary).toString('base64');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const base64 = await compileKernel();
  const lines = base64.match(/.{1,100}/g) ?? [];
  const text = [
    '/** Made from kernel/kernel.ts by `npm run build:kernel`; not to be edited. */',
    'export const kernelWasm =',
    lines.map((l) => `  '${l}'`).join(' +\n'),
  ].join('\n');
  writeFileSync(new URL('src/memory/kernel-wasm.ts', root), `${text};\n`);
}
