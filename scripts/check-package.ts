/**
 * Is the package that npm would publish complete? Packs it, installs it in an empty folder, runs the
 * command, imports the library, and lets TypeScript check a user's program against its types.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** A user's program: uses the library as the README shows it, and would not compile without its types. */
const consumer = `
import { Fabric, NetbeError, type NicInfo } from 'netbe';

const fabric: Fabric = await Fabric.start();
try {
  const nic: NicInfo = await fabric.addNic({ backend: 'vale0:vm1', socket: 'vm1.sock' });
  const refused = await fabric.addNic({ backend: 'nosuch', socket: 'vm2.sock' }).catch((error: unknown) => error);
  if (!(refused instanceof NetbeError)) throw new Error('a backend that does not exist was accepted');
  console.log(nic.name, Object.keys(fabric.counters()).length > 0);
} finally {
  await fabric.close();
}
`;

function check(what: string, dir: string, command: string, ...args: string[]): string {
  try {
    const output = execFileSync(command, args, { cwd: dir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    process.stdout.write(`package: ${what}\n`);
    return output;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    process.stderr.write(`package: failed: ${what}\n${stdout}${stderr}`);
    throw error;
  }
}

function expect(output: string, wanted: string): void {
  if (!output.includes(wanted)) throw new Error(`package: expected "${wanted}" in:\n${output}`);
}

function main(dir: string): void {
  // the build is there already, and prepack would remove it under our feet
  const packed = check('packs', root, 'npm', 'pack', '--ignore-scripts', '--json', '--pack-destination', dir);
  const [{ filename }] = JSON.parse(packed) as [{ filename: string }];
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  const quiet = ['--prefer-offline', '--no-audit', '--no-fund', '--omit=dev'];
  check('installs in an empty folder', dir, 'npm', 'install', ...quiet, `./${filename}`);
  expect(check('the command runs', dir, 'npx', '--no-install', 'netbe', '--help'), 'Usage: netbe');

  writeFileSync(join(dir, 'consumer.ts'), consumer);
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types')];
  const strict = ['--strict', '--module', 'nodenext', '--target', 'es2023'];
  check('its types resolve', dir, process.execPath, tsc, ...strict, ...types, 'consumer.ts');
  expect(check('the library runs', dir, process.execPath, 'consumer.js'), 'vm1 true');
}

const dir = mkdtempSync(join(tmpdir(), 'netbe-package-'));
try {
  main(dir);
} catch {
  process.exitCode = 1;
} finally {
  rmSync(dir, { recursive: true, force: true });
}
