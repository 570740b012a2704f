/** Builds the C programs of bench/reference with the system's compiler, once for each version of their source. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDir, hashOf } from '../../scripts/setup/cache.js';
import { BenchSkipped } from './bench.js';

const sources = fileURLToPath(new URL('../../../bench/reference/', import.meta.url));

/** Path of the program made of `source` (a file name in bench/reference) with these further arguments. */
export function compileReference(source: string, args: readonly string[] = []): string {
  const compiler = process.env.CC ?? 'cc';
  const path = join(sources, source);
  const flags = ['-O3', '-march=native', '-Wall', '-Wextra', '-std=gnu11'];
  const dir = join(cacheDir(), 'bench');
  const headers = readdirSync(sources)
    .filter((name) => name.endsWith('.h'))
    .sort();
  const texts = [path, ...headers.map((name) => join(sources, name))].map((file) => readFileSync(file, 'utf8'));
  const program = join(dir, `${source.replace(/\.c$/, '')}-${hashOf(compiler, ...texts, ...flags, ...args)}`);
  if (existsSync(program)) return program;
  mkdirSync(dir, { recursive: true });
  const partial = `${program}.${process.pid}`;
  try {
    execFileSync(compiler, [...flags, '-o', partial, path, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (cause) {
    const { code, stderr } = cause as NodeJS.ErrnoException & { stderr?: Buffer };
    throw new BenchSkipped(
      code === 'ENOENT'
        ? `the reference is C, and there is no compiler "${compiler}": install gcc, or name one in CC`
        : `${compiler} ${source} failed:\n${stderr?.toString().slice(0, 2000)}`,
    );
  }
  renameSync(partial, program);
  return program;
}
