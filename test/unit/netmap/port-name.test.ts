import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { NetbeError } from '../../../src/errors.js';
import { parsePortName } from '../../../src/netmap/port-name.js';

/** The 1-based place that the error names. */
function placeOfError(text: string, names: readonly string[] = []): number {
  try {
    parsePortName(text, (name) => names.includes(name));
  } catch (error) {
    const { message, remedy = '' } = error as NetbeError;
    const place = Number(/character (\d+)/.exec(message)?.[1]);
    // the remedy shows the same place under the name
    const [, shown = '', caret = ''] = remedy.split('\n');
    assert.equal(caret.indexOf('^') - shown.indexOf(text) + 1, place);
    return place;
  }
  return 0;
}

describe('port names (nm_open)', () => {
  test('netmap:IF names an interface, hyphens and dots included', () => {
    for (const name of ['eth1', 'br-lan', 'enp0s31f6', 'eth0.100', 'veth-a-b', 'wg_0'])
      assert.deepEqual(parsePortName(`netmap:${name}`), { kind: 'netmap', ifname: name });
  });

  test('every other form of nm_open is refused at its character', () => {
    for (const suffix of ['{1', '}1', '^', '^2', '*', '-3', '/x', '/rt', '@2', '-3/x'])
      assert.equal(placeOfError(`netmap:eth0${suffix}`), 12, suffix);
  });

  test('a name that ends in a hyphen and digits is an interface if there is one of that name', () => {
    assert.equal(placeOfError('netmap:tun-1'), 11);
    assert.equal(placeOfError('netmap:tun-1', ['tun-1']), 0);
  });

  test('names that no interface can have are refused where they go wrong', () => {
    assert.equal(placeOfError('netmap:'), 8);
    assert.equal(placeOfError('netmap:^'), 8);
    assert.equal(placeOfError('netmap:a b'), 9);
    assert.equal(placeOfError('netmap:a:b'), 9);
    assert.equal(placeOfError('vale0:x'), 1);
  });
});
