/** Queues in memory that is not shared: what is asked of the hypervisor, in which order, and what comes of it when that is disturbed. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RX_QUEUE, TX_QUEUE } from '../../../src/frontends/virtio-net/device.js';
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../../../src/wire/virtio-features.js';
import { RemoteRig } from '../../support/remote-rig.js';
import { etherFrame } from '../../support/test-guest.js';

const BASIC = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF;
const HDR = 12;

const rig = new RemoteRig();

const usedIdx = (ring = rig.guest.tx): number => ring.read16(ring.used + 2);
const frame = etherFrame(0xff, 1, 100, 7);
const again = etherFrame(0xff, 1, 90, 8);

describe('a frame from the guest', () => {
  test('is fetched step by step, sent, and its chain returned step by step; the interrupt comes last', () => {
    rig.start();
    const gpa = rig.offer(frame);
    const { desc, avail, used, size } = rig.guest.tx;
    assert.deepEqual(rig.step(), [`read ${avail}+4`]);
    assert.deepEqual(rig.step(), [`read ${avail}+${6 + 2 * size}`, `read ${desc}+${16 * size}`]);
    assert.equal(rig.guest.device.poll(), 0, 'nothing can be sent yet');
    assert.deepEqual(rig.step(), [`read ${gpa}+${HDR + frame.length}`]);
    assert.equal(rig.guest.channel.pending, 0);
    assert.equal(rig.guest.device.poll(), 1);
    assert.deepEqual(Buffer.from(rig.peer.receive()[0]!.frame), Buffer.from(frame));
    assert.equal(usedIdx(), 0);
    assert.deepEqual(rig.step(), [`write ${used + 4}+8`]);
    assert.equal(usedIdx(), 0);
    assert.deepEqual(rig.step(), [`write ${used}+4`]);
    assert.equal(rig.guest.reclaimTx(), 1);
    assert.equal(rig.guest.interrupts[TX_QUEUE], 0);
    assert.deepEqual(rig.step(), [`read ${avail}+4`]);
    assert.equal(rig.guest.interrupts[TX_QUEUE], 1);
    assert.equal(rig.guest.channel.pending, 0);
  });

  test('is sent as it was when it was fetched, whatever the driver writes afterwards', () => {
    rig.start();
    const gpa = rig.offer(frame);
    for (let i = 0; i < 3; i++) rig.step();
    rig.guest.bytes(gpa, HDR + frame.length).fill(0xee);
    rig.guest.device.poll();
    assert.deepEqual(Buffer.from(rig.peer.receive()[0]!.frame), Buffer.from(frame));
  });

  test('that another one follows meanwhile is found without a further notification', () => {
    rig.start();
    rig.offer(frame);
    rig.step();
    rig.offer(again);
    rig.guest.settle();
    assert.deepEqual(
      rig.peer.receive().map((r) => r.frame.length),
      [100, 90],
    );
    assert.equal(rig.guest.reclaimTx(), 2);
  });

  test('with an indirect table, the table is fetched before the buffers', () => {
    rig.start({ features: BASIC | VIRTIO_F_INDIRECT_DESC });
    const gpa = rig.guest.txSlot();
    const table = rig.guest.txSlot();
    rig.guest.bytes(gpa, HDR + frame.length).set(frame, HDR);
    rig.guest.tx.addIndirect(
      [
        { gpa, len: HDR },
        { gpa: gpa + HDR, len: frame.length },
      ],
      table,
    );
    rig.guest.tx.publish();
    rig.guest.device.kick(TX_QUEUE);
    rig.step();
    rig.step();
    assert.deepEqual(rig.step(), [`read ${table}+32`]);
    assert.deepEqual(rig.step(), [`read ${gpa}+${HDR}`, `read ${gpa + HDR}+${frame.length}`]);
    rig.guest.device.poll();
    assert.deepEqual(Buffer.from(rig.peer.receive()[0]!.frame), Buffer.from(frame));
  });

  test('whose chain is malformed is returned, and nothing is fetched for it', () => {
    rig.start();
    const { tx } = rig.guest;
    tx.add([
      { gpa: rig.guest.txSlot(), len: 100 },
      { gpa: rig.guest.txSlot(), len: 100, writable: true },
    ]);
    tx.publish();
    rig.guest.device.kick(TX_QUEUE);
    rig.step();
    rig.step();
    assert.equal(rig.guest.channel.pending, 0);
    assert.equal(rig.guest.device.poll(), 1);
    rig.guest.settle();
    assert.equal(rig.count('fault_direction'), 1);
    assert.equal(rig.guest.reclaimTx(), 1);
  });

  test('wakes the NIC when it is there, and not before', () => {
    rig.start();
    const { loop } = rig.runtime;
    for (const until = performance.now() + 1000; loop.activeCount > 0 && performance.now() < until; ) loop.step(0);
    rig.offer(frame);
    for (let i = 0; i < 3; i++) {
      assert.equal(loop.activeCount, 0);
      rig.step();
    }
    loop.step(0);
    assert.equal(rig.peer.receive().length, 1);
  });

  test('is fetched 64 at a time, and no further one once 256 KiB are asked for', () => {
    rig.start({ queueSize: 256, txBufLen: 4096 });
    for (let i = 0; i < 100; i++) rig.guest.queueFrame(frame);
    rig.guest.tx.publish();
    rig.guest.device.kick(TX_QUEUE);
    rig.step();
    rig.step();
    assert.equal(rig.step().length, 64);
    rig.guest.settle();
    assert.equal(rig.guest.reclaimTx(), 100);
    const gpa = rig.guest.txSlot();
    for (let i = 0; i < 10; i++) rig.guest.tx.add([{ gpa, len: 60_000 }]);
    rig.guest.tx.publish();
    rig.guest.device.kick(TX_QUEUE);
    rig.step();
    rig.step();
    assert.equal(rig.step().length, 5);
    rig.guest.settle();
    assert.equal(rig.guest.reclaimTx(), 10);
  });

  test('goes out when the driver never returns what it was given', () => {
    rig.start();
    for (let i = 0; i < 3; i++) rig.offer(frame);
    rig.guest.settle();
    assert.equal(rig.peer.receive().length, 3);
    assert.equal(rig.guest.interrupts[TX_QUEUE], 1);
  });
});

describe('a frame to the guest', () => {
  test('is stored, then the used entry, then the index; the interrupt comes last', () => {
    rig.start();
    const { avail, used } = rig.guest.rx;
    rig.arrive(frame);
    const first = rig.step();
    assert.equal(first.length, 1);
    assert.match(first[0]!, new RegExp(`^write [0-9]+\\+${HDR + frame.length}$`));
    assert.equal(usedIdx(rig.guest.rx), 0);
    assert.deepEqual(rig.step(), [`write ${used + 4}+8`]);
    assert.equal(usedIdx(rig.guest.rx), 0);
    assert.deepEqual(rig.step(), [`write ${used}+4`]);
    assert.equal(usedIdx(rig.guest.rx), 1);
    assert.equal(rig.guest.interrupts[RX_QUEUE], 0);
    assert.deepEqual(rig.step(), [`read ${avail}+4`]);
    assert.equal(rig.guest.interrupts[RX_QUEUE], 1);
    assert.equal(rig.guest.channel.pending, 0);
    assert.deepEqual(Buffer.from(rig.guest.receive()[0]!.frame), Buffer.from(frame));
  });

  test('is stored with as many bytes as it has, and no more', () => {
    rig.start();
    const all = rig.guest.bytes(0, 4096 * 40);
    const before = Uint8Array.from(all);
    rig.arrive(frame);
    rig.step();
    const changed = [...all.keys()].filter((i) => all[i] !== before[i]);
    assert.ok(changed.length > 0 && changed.at(-1)! - changed[0]! < HDR + frame.length);
  });

  test('is spread over the buffers of several chains', () => {
    rig.start({ rxBufLen: 512 });
    const long = etherFrame(0xff, 1, 3000, 9);
    rig.arrive(long);
    assert.deepEqual(
      rig.step().map((text) => text.split('+')[1]),
      ['512', '512', '512', '512', '512', `${HDR + 3000 - 5 * 512}`],
    );
    const [got] = rig.guest.receive();
    assert.equal(got!.header[10], 6);
    assert.deepEqual(Buffer.from(got!.frame), Buffer.from(long));
  });

  test('that comes while another one is on its way follows with the next round', () => {
    rig.start();
    rig.arrive(frame);
    rig.step();
    rig.arrive(again);
    rig.step();
    rig.step();
    assert.equal(usedIdx(rig.guest.rx), 1, 'its own data is not there yet');
    assert.deepEqual(
      rig.guest.receive().map((r) => r.frame.length),
      [100, 90],
    );
  });

  test('waits for buffers, and is delivered when the driver posts some and notifies', () => {
    rig.start({ rxBuffers: 0 });
    rig.arrive(frame);
    assert.equal(rig.guest.receive().length, 0);
    assert.equal(rig.guest.device.status().starved, true);
    rig.guest.postRx(rig.guest.txSlot());
    assert.equal(rig.guest.rx.publish(), true);
    rig.guest.device.kick(RX_QUEUE);
    assert.equal(rig.guest.receive(false).length, 1);
    assert.equal(rig.count('rx_starved'), 1);
  });

  test('finds 1 MiB of buffers and a chain at most, until the driver has got some back', () => {
    rig.start({ queueSize: 256, rxBufLen: 66 * 1024, txBufLen: 4096 });
    const { availIdx } = rig.guest.device.status().queues[RX_QUEUE]!;
    // without a frame nothing is taken: count what could be
    for (let i = 0; i < 40; i++) rig.arrive(frame);
    assert.equal(rig.guest.device.status().queues[RX_QUEUE]!.availIdx - availIdx, 16);
    let frames = 0;
    for (let i = 0; i < 4; i++) frames += rig.guest.receive().length;
    assert.equal(frames, 40);
  });
});

describe('interrupts', () => {
  /** Sends a frame up to the point at which the used index is in the guest's memory. */
  function untilTold(): void {
    rig.offer(frame);
    for (let i = 0; i < 3; i++) rig.step();
    rig.guest.device.poll();
    rig.step();
    rig.step();
    assert.equal(usedIdx(), 1);
  }

  test('are not given to a driver that wants none', () => {
    rig.start();
    rig.guest.tx.wantInterrupts(false);
    untilTold();
    rig.guest.settle();
    assert.equal(rig.guest.interrupts[TX_QUEUE], 0);
  });

  test('are given to one that wants them before it is asked, and may have looked at the index before it was written', () => {
    rig.start();
    rig.guest.tx.wantInterrupts(false);
    rig.offer(frame);
    for (let i = 0; i < 3; i++) rig.step();
    rig.guest.device.poll();
    rig.step();
    rig.guest.tx.wantInterrupts(true);
    assert.equal(rig.guest.tx.reclaim(), undefined);
    rig.guest.settle();
    assert.equal(rig.guest.interrupts[TX_QUEUE], 1);
  });

  test('with event index are given when the index asked for is passed, once', () => {
    rig.start({ features: BASIC | VIRTIO_F_EVENT_IDX });
    rig.guest.tx.write16(rig.guest.tx.avail + 4 + 2 * rig.guest.tx.size, 1);
    for (const expected of [0, 1, 1]) {
      rig.offer(frame);
      rig.guest.settle();
      assert.equal(rig.guest.reclaimTx(), 1);
      assert.equal(rig.guest.interrupts[TX_QUEUE], expected);
    }
  });
});

describe('notifications', () => {
  test('are always wanted, also while frames pass', () => {
    rig.start();
    for (let i = 0; i < 5; i++) {
      rig.guest.queueFrame(frame);
      assert.equal(rig.guest.tx.publish(), true);
      rig.guest.device.kick(TX_QUEUE);
      rig.guest.channel.deliver();
      rig.guest.device.poll();
      rig.runtime.loop.step(0);
    }
    rig.guest.settle();
    assert.equal(rig.peer.receive().length, 5);
  });

  test('are wanted again of a ring whose last device had wanted none', () => {
    rig.start();
    rig.guest.device.stopQueue(TX_QUEUE);
    rig.guest.tx.write16(rig.guest.tx.used, 1);
    rig.guest.device.startQueue(TX_QUEUE);
    rig.guest.settle();
    assert.equal(rig.guest.tx.read16(rig.guest.tx.used), 0);
  });

  describe('with event index', () => {
    const features = BASIC | VIRTIO_F_EVENT_IDX;
    const availEvent = (): number => rig.guest.tx.read16(rig.guest.tx.used + 4 + 8 * rig.guest.tx.size);

    test('are asked for behind the index that was seen, and then the index is looked at once more', () => {
      rig.start({ features });
      assert.equal(availEvent(), 0);
      rig.offer(frame);
      for (let i = 0; i < 3; i++) rig.step();
      const { avail, used, size } = rig.guest.tx;
      assert.deepEqual(rig.step(), [`write ${used + 4 + 8 * size}+2`]);
      assert.equal(availEvent(), 1);
      assert.deepEqual(rig.step(), [`read ${avail}+4`, `read ${avail + 4 + 2 * size}+2`]);
      assert.equal(rig.guest.channel.pending, 0);
    });

    test('are not missed when they come between the look at the index and the answer', () => {
      rig.start({ features });
      const { avail, size } = rig.guest.tx;
      rig.guest.queueFrame(frame);
      let late = false;
      // asked for behind the index, in the same batch
      rig.refuses = (t) => {
        if (t.gpa === avail + 4 + 2 * size && !late) {
          late = true;
          rig.guest.tx.publish();
          rig.guest.device.kick(TX_QUEUE);
        }
        return false;
      };
      rig.guest.device.kick(TX_QUEUE);
      rig.guest.settle();
      assert.ok(late);
      assert.equal(rig.peer.receive().length, 1);
    });

    test('are not missed by a driver that adds a chain while they are asked for', () => {
      for (const when of [1, 2, 3, 4, 5]) {
        rig.start({ features });
        rig.offer(frame);
        for (let i = 0; i < when; i++) rig.step();
        rig.guest.queueFrame(again);
        // as a driver does it: it notifies only if it is asked to
        if (rig.guest.tx.publish()) rig.guest.device.kick(TX_QUEUE);
        rig.guest.settle();
        assert.equal(rig.peer.receive().length, 2, `after ${when} steps`);
        rig.guest.queueFrame(again);
        assert.equal(rig.guest.tx.publish(), true);
        rig.guest.close();
      }
      rig.start({ features });
    });
  });
});

describe('chains that are partly shared', () => {
  const PAGE = 4096;
  // rings, then 64 receive buffers of 2 KiB
  const rings = 3 * PAGE;

  test('rings that are not shared with buffers that are: those need no transfer', () => {
    rig.start({ unshared: [[0, rings]] });
    rig.offer(frame);
    rig.step();
    rig.step();
    assert.equal(rig.guest.channel.pending, 0);
    assert.equal(rig.guest.device.poll(), 1);
    assert.equal(rig.peer.receive().length, 1);
    rig.guest.settle();
    rig.arrive(again);
    assert.deepEqual(rig.step(), [`write ${rig.guest.rx.used + 4}+8`]);
    assert.equal(rig.guest.receive()[0]!.frame.length, 90);
  });

  test('a frame that lies in both kinds of memory is whole, both ways', () => {
    // the second half of every receive buffer's page pair, and of the first transmit buffer
    const size = rings + 64 * 4 * PAGE;
    const pieces = Array.from({ length: 64 }, (_, i) => rings + 4 * PAGE * i);
    rig.start({
      rxBufLen: 4 * PAGE,
      features: VIRTIO_F_VERSION_1,
      unshared: [
        [0, rings],
        ...pieces.map((at) => [at + PAGE, at + 2 * PAGE] as const),
        [size + PAGE, size + 2 * PAGE],
      ],
    });
    const long = Uint8Array.from({ length: 3 * PAGE }, (_, i) => (i < 12 ? etherFrame(0xff, 1)[i]! : i * 7));
    rig.offer(long);
    rig.guest.settle();
    assert.deepEqual(Buffer.from(rig.peer.receive()[0]!.frame), Buffer.from(long));
    rig.arrive(long);
    assert.deepEqual(Buffer.from(rig.guest.receive()[0]!.frame), Buffer.from(long));
    const stored = rig.guest.channel.log.filter((t) => t.kind === 'write' && t.gpa >= rings);
    assert.deepEqual(
      stored.map((t) => t.kind === 'write' && t.bytes.length),
      [PAGE],
    );
  });

  test('a ring that is shared is served in place, and does not find buffers that are not', () => {
    rig.start({ unshared: [[rings, rings + PAGE]] });
    assert.equal(rig.guest.device.transfersOutstanding, false);
    rig.guest.tx.add([{ gpa: rings, len: 60 }]);
    assert.equal(rig.guest.send(frame), 2);
    assert.equal(rig.count('fault_address'), 1);
    assert.equal(rig.peer.receive().length, 1);
    assert.equal(rig.guest.channel.log.length, 0);
  });
});

test('a queue has at most 1024 entries', () => {
  rig.start();
  rig.guest.device.stopQueue(TX_QUEUE);
  rig.guest.device.setQueueSize(TX_QUEUE, 2048);
  assert.throws(() => rig.guest.device.startQueue(TX_QUEUE), { code: 'EINVAL', message: /2048.*1024/ });
});
