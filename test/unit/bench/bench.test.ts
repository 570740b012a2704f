import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inTurn, median, resultOf } from '../../../bench/support/bench.js';

const program = fileURLToPath(new URL('../../../bench/run.js', import.meta.url));

test('the median of an even number of values is the middle of the two in the middle', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

test('two things are measured by turns, and a first pair does not count', async () => {
  const order: string[] = [];
  let n = 0;
  const step = (name: string) => async () => {
    order.push(name);
    return ++n;
  };
  const values = await inTurn(2, step('A'), step('B'));
  assert.deepEqual(order, ['A', 'B', 'A', 'B', 'A', 'B']);
  assert.deepEqual(values, { ours: [3, 5], reference: [4, 6] });
});

test('the ratio is that of each pair, and then their median: a slow moment of both does not show', () => {
  const result = resultOf({
    name: 'x',
    params: { bytes: 64 },
    unit: 'Mpps',
    ours: [10, 1, 8],
    reference: { name: 'C', values: [20, 2, 10] },
  });
  assert.deepEqual([result.median, result.min, result.max, result.runs], [8, 1, 10, 3]);
  assert.deepEqual(result.reference, { name: 'C', median: 10 });
  assert.equal(result.ratio, 0.5);
});

test('what stands alone has neither reference nor ratio', () => {
  const result = resultOf({ name: 'x', params: {}, unit: 'us', ours: [1, 2, 3] });
  assert.equal(result.reference, null);
  assert.equal(result.ratio, null);
});

test('--list names every bench: one a file', () => {
  const names = execFileSync(process.execPath, [program, '--list'], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.split(' ')[0]);
  const files = readdirSync(dirname(program)).filter((file) => file.endsWith('.js') && file !== 'run.js');
  assert.deepEqual(names.sort(), files.map((file) => file.slice(0, -'.js'.length)).sort());
});

test('a bench that does not exist is refused, and those that do are named', () => {
  const { status, stderr } = spawnSync(process.execPath, [program, '--only', 'nope'], { encoding: 'utf8' });
  assert.equal(status, 2);
  assert.match(stderr, /no bench "nope"; there are switch-forward, .*port-scaling/);
});
