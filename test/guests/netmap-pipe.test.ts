/** Two user-mode-linux guests at the ends of a netmap pipe: no switch, frames change hands by slot. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab } from '../support/guest/lab.js';
import { configure, iperf, ping } from '../support/guest/net.js';

describe('two guests on a netmap pipe', { timeout: 120_000 }, () => {
  let lab: Lab;
  let a: Guest;
  let b: Guest;

  before(async () => {
    lab = await Lab.start([
      { name: 'a', backend: 'netmap:x{1', backendOptions: { rings: '2' }, mtu: 9000 },
      { name: 'b', backend: 'netmap:x}1', mtu: 9000 },
    ]);
    [a, b] = await Promise.all([lab.uml('a'), lab.uml('b')]);
    await configure(a, 'eth0', { address: '10.0.0.1/24', mtu: 9000 });
    await configure(b, 'eth0', { address: '10.0.0.2/24', mtu: 9000 });
  });
  after(() => lab?.close());

  it('answers pings of every size, also in frames of several slots', async () => {
    for (const size of [0, 56, 1472, 2100, 8972, 20000]) {
      const { sent, received } = await ping(a, '10.0.0.2', { count: 3, intervalS: 0.05, size });
      assert.deepEqual({ size, sent, received }, { size, sent: 3, received: 3 });
    }
  });

  it('carries TCP both ways; nothing but complete frames is in the pipe', async () => {
    for (const [from, to, address] of [
      [a, b, '10.0.0.2'],
      [b, a, '10.0.0.1'],
    ] as const) {
      const { bytes } = await iperf(from, to, address, { seconds: 1 });
      assert.ok(bytes > 1_000_000, `${bytes} bytes`);
    }
    for (const device of ['netmap:x{1', 'netmap:x}1']) {
      assert.ok(lab.counter(device, 'rx_frames') > 100);
      assert.equal(lab.counter(device, 'rx_drop_bad_slot'), 0);
      assert.equal(lab.counter(`rings ${device.slice(7)}`, 'ring_reinits'), 0);
    }
  });
});
