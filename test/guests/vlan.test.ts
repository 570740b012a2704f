/**
 * Tagged frames between a guest that leaves segmentation and checksums to others, and one that takes complete
 * frames only: what the switch makes of them is judged by Linux.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab } from '../support/guest/lab.js';
import { addVlan, badSegments, configure, iperf, ping } from '../support/guest/net.js';
import { noOffloads } from '../support/guest/qemu.js';

describe('VLAN tags between a guest with offloads and one without', { timeout: 180_000 }, () => {
  let lab: Lab;
  let rich: Guest;
  let plain: Guest;

  before(async () => {
    lab = await Lab.start([{ name: 'rich' }, { name: 'plain' }]);
    [rich, plain] = await Promise.all([lab.uml('rich'), lab.qemu('plain', ['plain'], { properties: noOffloads })]);
    for (const [guest, host] of [
      [rich, 1],
      [plain, 2],
    ] as const) {
      await configure(guest, 'eth0', { address: `10.0.0.${host}/24` });
      await addVlan(guest, 'eth0', 5, `10.5.0.${host}/24`);
      // a service provider's tag, and a customer's within
      await guest.sh(
        'ip link add link eth0 name provider type vlan protocol 802.1ad id 100 && ip link set provider up',
      );
      await addVlan(guest, 'provider', 6, `10.6.0.${host}/24`);
    }
  });
  after(() => lab?.close());

  for (const [tags, net] of [
    ['one tag (802.1Q)', '10.5.0'],
    ['two tags (802.1ad and 802.1Q)', '10.6.0'],
  ] as const)
    it(`${tags}: segments and checksums that the switch makes are right`, async () => {
      const { sent, received } = await ping(rich, `${net}.2`, { count: 3, intervalS: 0.05, size: 1400 });
      assert.equal(received, sent);
      const segmented = lab.counter('vale0:rich', 'tx_frames_segmented');
      const bad = await badSegments(plain);
      const { bytes } = await iperf(rich, plain, `${net}.2`, { seconds: 1 });
      assert.ok(bytes > 500_000, `${bytes} bytes`);
      assert.ok(lab.counter('vale0:rich', 'tx_frames_segmented') > segmented, 'the switch divided none');
      assert.equal(await badSegments(plain), bad);
      const back = await iperf(plain, rich, `${net}.1`, { seconds: 1 });
      assert.ok(back.bytes > 500_000, `${back.bytes} bytes`);
    });
});
