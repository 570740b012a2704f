/**
 * Runs the tests: node dist/scripts/test.js [GROUP | FILE]...
 *
 * Groups are the folders of test/: unit, conformance, fuzz, peers, guests; all of them by default.
 * One file at a time: guests and peers want the machine's cores to themselves. What the guests need
 * and is not there is fetched first (npm run setup does the same).
 */
import { readdirSync, statSync } from 'node:fs';
import { finished } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { exitStatus, NetbeError } from '../src/errors.js';
import { chooseComponents, setUp } from './setup/install.js';

const root = fileURLToPath(new URL('../test/', import.meta.url));
const groups = ['unit', 'conformance', 'fuzz', 'peers', 'guests'];

function testFiles(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((f) => f.endsWith('.test.js'))
    .sort()
    .map((f) => `${dir}/${f}`);
}

function filesOf(name: string): string[] {
  if (groups.includes(name)) return statSync(root + name, { throwIfNoEntry: false }) ? testFiles(root + name) : [];
  const file = name.replace(/\.ts$/, '.js').replace(/^(dist\/)?test\//, '');
  if (statSync(root + file, { throwIfNoEntry: false })?.isFile()) return [root + file];
  if (statSync(root + file, { throwIfNoEntry: false })?.isDirectory()) return testFiles(root + file);
  process.stderr.write(`test: no group or file ${name}; groups: ${groups.join(', ')}\n`);
  process.exit(2);
}

const args = process.argv.slice(2);
const files = (args.length > 0 ? args : groups).flatMap(filesOf);
if (files.length === 0) {
  process.stderr.write('test: no test files\n');
  process.exit(2);
}

if (files.some((file) => file.startsWith(`${root}guests/`))) {
  try {
    await setUp(chooseComponents([]));
  } catch (error) {
    if (!(error instanceof NetbeError)) throw error;
    const rest = groups.filter((group) => group !== 'guests').join(' ');
    process.stderr.write(`test: the guests cannot be set up: ${error.message}\n${error.remedy ?? ''}\n`);
    process.stderr.write(`The tests that need no guests: npm test -- ${rest}\n`);
    process.exit(exitStatus(error.kind));
  }
}

const counts = { pass: 0, fail: 0, skip: 0 };
const stream = run({ files, concurrency: 1 });
stream.on('test:pass', (event) => {
  if (event.skip !== undefined) counts.skip++;
  else if (event.details.type !== 'suite') counts.pass++;
});
stream.on('test:fail', (event) => {
  if (event.details.type !== 'suite') counts.fail++;
});
const report = stream.compose(new spec());
report.pipe(process.stdout, { end: false });
await finished(report);

// in CI a skipped test is a failed one: what it needs is installed by the project's own set-up
const skipsFail = process.env.CI !== undefined && counts.skip > 0;
if (skipsFail) process.stdout.write('A skipped test fails the run where CI is set.\n');
process.stdout.write(`${counts.pass} passed, ${counts.fail} failed, ${counts.skip} skipped\n`);
process.exitCode = counts.fail > 0 || skipsFail ? 1 : 0;
