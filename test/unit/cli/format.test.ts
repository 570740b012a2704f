import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBytes, formatCount, formatRate, formatTable, plural } from '../../../src/cli/format.js';

test('sizes, counts and rates are short and readable', () => {
  assert.deepEqual([0, 1023, 1536, 1048576, 250 * 2 ** 30].map(formatBytes), [
    '0 B',
    '1023 B',
    '1.5 KiB',
    '1.0 MiB',
    '250 GiB',
  ]);
  assert.equal(formatCount(1234567), '1,234,567');
  assert.deepEqual([0.4, 9999, 12_345, 6_500_000].map(formatRate), ['0', '9999', '12.3k', '6.50M']);
  assert.equal(plural(1, 'frame'), '1 frame');
  assert.equal(plural(2000, 'frame'), '2,000 frames');
});

test('a table has aligned columns, and nothing behind a row', () => {
  const columns = [{ head: 'PORT' }, { head: 'TX', align: 'right' as const }, { head: 'NOTE' }];
  assert.equal(
    formatTable(columns, [
      ['vm1', '7', 'x'],
      ['longer', '1,234', ''],
    ]),
    ['PORT       TX  NOTE', 'vm1         7  x', 'longer  1,234'].join('\n'),
  );
});
