/** Programs for guests, in C, made by the system's compiler: what a guest's kernel offers to C alone. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const sources = fileURLToPath(new URL('../../../../test/support/guest/programs/', import.meta.url));

/** Compiles programs/`name`.c into `dir`, statically linked and for any x86-64; returns its path. */
export function compileForGuest(name: string, dir: string): string {
  const program = join(dir, name);
  const flags = ['-O1', '-march=x86-64', '-static', '-Wall', '-Wextra', '-Werror'];
  execFileSync(process.env.CC ?? 'cc', [...flags, '-o', program, join(sources, `${name}.c`)]);
  return program;
}
