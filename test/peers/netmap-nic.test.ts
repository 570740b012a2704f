/** An interface by its rings, and as a port of a switch: this namespace's stack at one end, another's behind the wire. */
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { NR_FORWARD, NS_BUF_CHANGED, NS_FORWARD, NS_MOREFRAG } from '../../src/netmap/abi.js';
import { netmapOf } from '../../src/netmap/netmap.js';
import type { NetmapPort } from '../../src/netmap/port.js';
import type { NetmapRing } from '../../src/netmap/ring.js';
import { valeSwitches } from '../../src/netmap/vale/switches.js';
import { openFdCount } from '../../src/sys/fd.js';
import { whileRunning } from '../support/patch.js';
import type { TestRuntime } from '../support/runtime.js';
import { tapsUnavailable } from '../support/tap.js';
import { VethRig } from '../support/veth-rig.js';

/** Moves what waits in `rx` to `tx` by exchanging buffers, as netmap's bridge does. */
function swap(rx: NetmapRing, tx: NetmapRing): void {
  for (let n = Math.min(rx.space(), tx.space()); n > 0; n--) {
    const [r, t] = [rx.head, tx.head];
    const idx = tx.bufIdx(t);
    tx.setBufIdx(t, rx.bufIdx(r));
    rx.setBufIdx(r, idx);
    tx.setLenAndFlags(t, rx.len(r), (rx.slotFlags(r) & NS_MOREFRAG) | NS_BUF_CHANGED);
    rx.setSlotFlags(r, NS_BUF_CHANGED);
    rx.advance(1);
    tx.advance(1);
  }
}

describe('an interface of the host as a netmap port', { skip: tapsUnavailable, timeout: 120_000 }, () => {
  let runtime: TestRuntime;
  const rig = new VethRig(1_000_000, () => {
    netmapOf(runtime).close();
    assert.deepEqual(runtime.counters.directory(), []);
    assert.deepEqual(valeSwitches(runtime).list(), []);
  });

  beforeEach(() => {
    ({ runtime } = rig);
  });

  for (const hdrLen of [0, 12])
    test(`a program that moves buffers between the rings of wire and host is a wire itself (header ${hdrLen})`, async () => {
      const onReady = () => {
        port.rxsync();
        const [wireTx, hostTx] = port.txRings as [NetmapRing, NetmapRing];
        const [wireRx, hostRx] = port.rxRings as [NetmapRing, NetmapRing];
        swap(wireRx, hostTx);
        swap(hostRx, wireTx);
        port.txsync();
        port.rxsync();
      };
      const port: NetmapPort = netmapOf(runtime).open('netmap:l0*', { onReady });
      assert.deepEqual([port.memory.id, port.txRings.length, port.rxRings.length], [1, 2, 2]);
      port.vnetHdrLen = hdrLen;
      await rig.hostTalksToPeer('swapped');
      assert.throws(() => netmapOf(runtime).attach('vale0', 'l0'), { code: 'EBUSY' });
      port.close();
      await rig.hostTalksToPeer('closed');
    });

  test('NS_FORWARD hands frames on to the other side, without a buffer being moved', async () => {
    const onReady = () => {
      port.rxsync();
      for (const rx of port.rxRings) {
        for (; rx.space() > 0; rx.advance(1)) rx.setSlotFlags(rx.head, rx.slotFlags(rx.head) | NS_FORWARD);
      }
      port.rxsync();
    };
    const port: NetmapPort = netmapOf(runtime).open('netmap:l0*', { onReady });
    for (const rx of port.rxRings) rx.flags |= NR_FORWARD;
    await rig.hostTalksToPeer('forwarded');
    assert.ok(runtime.count('rings l0', 'forwarded') > 100);
  });

  test('attached to a switch with its host rings, the host has its network through the switch', async () => {
    const fds = openFdCount();
    const netmap = netmapOf(runtime);
    assert.equal(netmap.attach('vale0', 'l0', { host: true }), 0);
    assert.deepEqual(
      valeSwitches(runtime)
        .list()[0]!
        .ports.map(({ name }) => name),
      ['l0', 'l0^'],
    );
    await rig.hostTalksToPeer('switched');
    assert.ok(runtime.count('vale0', 'unicast') > 100);
    assert.throws(() => netmap.attach('vale0', 'l0'), { code: 'EEXIST' });
    assert.throws(() => netmap.detach('vale1', 'l0'), { code: 'ENXIO' });
    netmap.detach('vale0', 'l0');
    assert.equal(openFdCount(), fds);
    await rig.hostTalksToPeer('detached');
  });

  test('attached without them, a port of the switch speaks for the interface, and the host does not', async () => {
    const netmap = netmapOf(runtime);
    const port = netmap.open('vale0:p');
    netmap.attach('vale0', 'l0');
    // an address that is nobody's: the peer asks for it, and the port hears the question
    const asked = rig.peer.echo('10.0.0.77', [1]).catch(() => undefined);
    const heard = (): boolean => {
      port.rxsync();
      const rx = port.rxRings[0]!;
      for (; rx.space() > 0; rx.advance(1)) {
        const off = rx.slotOff(rx.head);
        const frame = Buffer.from(rx.window.u8.subarray(off, off + rx.len(rx.head)));
        if (frame.readUInt16BE(12) === 0x0806 && frame.subarray(38, 42).equals(Buffer.from([10, 0, 0, 77])))
          return true;
      }
      return false;
    };
    let found = false;
    await whileRunning(
      runtime,
      (async () => {
        for (const end = Date.now() + 5000; !found && Date.now() < end; ) {
          found = heard();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      })(),
    );
    assert.ok(found);
    await asked;
    port.close();
  });

  test('its host rings and its wire are opened and given back one by one', () => {
    const netmap = netmapOf(runtime);
    const wire = netmap.open('netmap:l0');
    const stack = netmap.open('netmap:l0^');
    const subjects = () => runtime.counters.directory().map(({ subject }) => subject);
    assert.deepEqual(subjects(), ['rings l0', 'netmap:l0', 'netmap:l0^']);
    wire.close();
    assert.deepEqual(subjects(), ['rings l0', 'netmap:l0^']);
    const pipe = netmap.open('netmap:l0{1');
    stack.close();
    assert.equal(netmap.find('l0')?.memory, pipe.memory);
    pipe.close();
    assert.deepEqual(netmap.list(), []);
  });
});
