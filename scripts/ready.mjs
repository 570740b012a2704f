/**
 * Makes a clone ready to run, before npm run demo, test, bench, setup and check: npm packages, build.
 * Plain JavaScript without imports of ours, since nothing is compiled yet. Quick when all is there.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (file) => JSON.parse(readFileSync(root + file, 'utf8'));

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  fail(`netbe needs Node.js 20.19 or newer; this is ${process.version}`, 3);
}

/** What npm says that it has installed is what the lock file asks for. */
function packagesInstalled() {
  let installed;
  try {
    installed = read('node_modules/.package-lock.json').packages;
  } catch {
    return false;
  }
  const wanted = Object.entries(read('package-lock.json').packages).filter(([path, p]) => path !== '' && !p.optional);
  return wanted.every(([path, p]) => installed[path]?.version === p.version);
}

function run(what, command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (status !== 0) fail(`${what} failed${error ? `: ${error.message}` : ''}`, status ?? 1);
}

function fail(message, status) {
  process.stderr.write(`netbe: ${message}\n`);
  process.exit(status);
}

checkNode();
if (!packagesInstalled()) {
  process.stderr.write('Installing the npm packages …\n');
  run('npm ci', 'npm', 'ci', '--no-audit', '--no-fund');
}
run('the build', process.execPath, 'node_modules/typescript/bin/tsc', '-p', '.');
