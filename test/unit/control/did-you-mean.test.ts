import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { didYouMean, editDistance } from '../../../src/control/did-you-mean.js';

/** The recursive definition, without swaps of neighbours. */
function naive(a: string, b: string): number {
  if (a === '' || b === '') return a.length + b.length;
  const same = a[0] === b[0] ? 0 : 1;
  return Math.min(naive(a.slice(1), b) + 1, naive(a, b.slice(1)) + 1, naive(a.slice(1), b.slice(1)) + same);
}

test('the distance is that of the definition, a swap of neighbours counting once', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 6 });
  fc.assert(
    fc.property(word, word, (a, b) => {
      const d = editDistance(a, b);
      assert(d <= naive(a, b) && d >= naive(a, b) / 2);
      assert.equal(d, editDistance(b, a));
    }),
  );
  assert.equal(editDistance('scoket', 'socket'), 1);
});

test('finds the near word and leaves the far one', () => {
  assert.equal(didYouMean('scoket', ['name', 'socket']), 'socket');
  assert.equal(didYouMean('MAC', ['mac', 'mtu']), 'mac');
  assert.equal(didYouMean('colour', ['name', 'control', 'nics']), undefined);
});
