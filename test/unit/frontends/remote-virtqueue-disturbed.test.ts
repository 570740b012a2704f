/** Queues in memory that is not shared, disturbed at every step: refusals, stops, resets, memory that changes, broken rings. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RX_QUEUE, TX_QUEUE } from '../../../src/frontends/virtio-net/device.js';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF } from '../../../src/wire/virtio-features.js';
import { RemoteRig } from '../../support/remote-rig.js';
import { etherFrame, type TestGuest } from '../../support/test-guest.js';
import { TestMemory } from '../../support/test-memory.js';
import { VirtqueueDriver } from '../../support/virtqueue-driver.js';

const BASIC = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF;
/** batches that a frame takes from the first notification to the interrupt */
const TX_STEPS = 6;
const RX_STEPS = 4;
/** steps after which the frame is fetched */
const TX_FETCHED = 3;
/** parts of a guest's memory with 64 entries a queue: rings, receive buffers, transmit buffers */
const RINGS = [0, 3 * 4096] as const;
const RX_BUFFERS = [RINGS[1], RINGS[1] + 64 * 2048] as const;
const TX_BUFFERS = [RX_BUFFERS[1], RX_BUFFERS[1] + 64 * 66 * 1024] as const;
const PARTS = [RINGS, RX_BUFFERS, TX_BUFFERS] as const;

const rig = new RemoteRig();

const frames = [101, 102, 103].map((length) => etherFrame(0xff, 1, length, length));
const lengths = frames.map((f) => f.length);
const upTo = (count: number): number[] => Array.from({ length: count + 1 }, (_, i) => i);

/** Until nothing happens any more. Lengths of what the guest has received; its buffers are posted again. */
function settle(): number[] {
  rig.guest.settle();
  return rig.guest.receive().map((r) => r.frame.length);
}

/** The queue works as if nothing had happened. */
function checkTraffic(guest: TestGuest): void {
  rig.peer.receive();
  for (let i = 0; i < 200; i++) {
    assert.equal(guest.send(etherFrame(0xff, 1, 70)), 1);
    assert.deepEqual(rig.sent(), [70], `frame ${i} is sent, once`);
    rig.arrive(etherFrame(0xff, 1, 80));
    assert.deepEqual(settle(), [80], `frame ${i} is received, once`);
    guest.device.kick(RX_QUEUE);
    guest.settle();
  }
}

describe('a transfer that is refused', () => {
  for (const [name, queue, steps] of [
    ['transmit', TX_QUEUE, TX_STEPS],
    ['receive', RX_QUEUE, RX_STEPS],
  ] as const)
    for (const k of upTo(steps - 1))
      test(`breaks the ring: ${name}, step ${k + 1}`, () => {
        const guest = rig.start();
        if (queue === TX_QUEUE) rig.offer(...frames);
        else for (const frame of frames) rig.arrive(frame);
        rig.advance(k);
        rig.refuses = () => true;
        rig.step();
        assert.deepEqual(rig.broken, ['fault_dma']);
        assert.equal(rig.count('fault_dma'), 1);
        assert.equal(rig.count('interrupts'), 0);
        if (queue === TX_QUEUE && k < TX_FETCHED)
          assert.deepEqual(rig.sent(), [], 'nothing is sent that was not fetched');
        assert.equal(guest.device.status().queues[queue]!.broken, true);
        assert.equal(guest.device.transfersOutstanding, false);
        rig.refuses = () => false;
        guest.device.kick(queue);
        guest.device.poll();
        rig.runtime.loop.step(0);
        if (queue === TX_QUEUE) assert.equal(guest.channel.pending, 0, 'it is not touched any more');
        assert.match(rig.runtime.records.at(-1)!.message, /the hypervisor refused/);
      });

  test('does not concern the other queue', () => {
    const guest = rig.start();
    rig.refuses = (t) => t.gpa >= TX_BUFFERS[0];
    rig.offer(...frames);
    guest.settle();
    assert.deepEqual(rig.broken, ['fault_dma']);
    rig.arrive(frames[0]!);
    assert.deepEqual(settle(), [101]);
  });
});

describe('a ring that is broken', () => {
  const jumps: readonly [string, (guest: TestGuest) => void][] = [
    ['forwards', (g) => g.tx.write16(g.tx.avail + 2, g.tx.availIdx + 65)],
    ['backwards', (g) => g.tx.write16(g.tx.avail + 2, g.tx.availIdx - 1)],
  ];
  for (const [way, jump] of jumps)
    test(`because its index jumps ${way} is not touched any more`, () => {
      const guest = rig.start();
      rig.offer(...frames);
      rig.advance(TX_FETCHED);
      jump(guest);
      guest.settle();
      assert.deepEqual(rig.broken, ['fault_avail_idx']);
      assert.equal(rig.count('fault_avail_idx'), 1);
      guest.device.kick(TX_QUEUE);
      assert.equal(guest.channel.pending, 0);
    });

  test('because its index goes back over chains that are not used is not touched any more', () => {
    const guest = rig.start();
    guest.rx.write16(guest.rx.avail + 2, guest.rx.availIdx - 1);
    guest.device.kick(RX_QUEUE);
    guest.settle();
    assert.deepEqual(rig.broken, ['fault_avail_idx']);
  });

  test('by a head beyond its table is not touched any more; what came before it is sent', () => {
    const guest = rig.start();
    guest.queueFrame(frames[0]!);
    guest.tx.offerRaw(64);
    guest.tx.publish();
    guest.device.kick(TX_QUEUE);
    guest.settle();
    assert.deepEqual(rig.broken, ['fault_head']);
    assert.deepEqual(rig.sent(), [101]);
  });

  test('may be as far ahead of what the driver was told as it is long', () => {
    const guest = rig.start();
    const many = Array.from({ length: 64 }, () => frames[0]!);
    for (let i = 0; i < 3; i++) {
      rig.offer(...many);
      guest.settle();
      assert.equal(guest.reclaimTx(), 64);
    }
    assert.deepEqual(rig.broken, []);
  });
});

describe('a queue that is stopped', () => {
  const restart = (queue: number): void => {
    const { device } = rig.guest;
    device.setQueueBase(queue, device.stopQueue(queue));
    device.startQueue(queue);
  };

  for (const features of [BASIC, BASIC | VIRTIO_F_EVENT_IDX])
    for (const k of upTo(TX_STEPS)) {
      const title = `and started again${features === BASIC ? '' : ', with event index,'} after ${k} steps`;
      test(`${title} returns each chain once, and sends each frame at least once`, () => {
        const guest = rig.start({ features });
        guest.tx.wantInterrupts(true);
        rig.offer(...frames);
        rig.advance(k);
        restart(TX_QUEUE);
        assert.ok(guest.channel.pending <= 1, 'what was under way comes first');
        guest.settle();
        // which checks that each was in flight
        assert.equal(guest.reclaimTx(), frames.length);
        assert.ok(guest.interrupts[TX_QUEUE]! > 0, 'the driver hears of it');
        const sent = rig.sent();
        assert.deepEqual(sent.slice(-lengths.length), lengths);
        assert.ok(sent.length <= 2 * lengths.length);
        checkTraffic(guest);
      });
    }

  for (const k of upTo(RX_STEPS))
    test(`and started again after ${k} steps has lost no receive buffer`, () => {
      const guest = rig.start();
      for (const frame of frames) rig.arrive(frame);
      rig.advance(k);
      restart(RX_QUEUE);
      const got = settle();
      assert.deepEqual(got, lengths.slice(0, got.length));
      guest.device.kick(RX_QUEUE);
      guest.settle();
      checkTraffic(guest);
    });

  test('and started again stores nothing of what was received before', () => {
    const guest = rig.start({ unshared: PARTS });
    rig.arrive(frames[0]!);
    // waits until the one before is there
    rig.arrive(frames[1]!);
    restart(RX_QUEUE);
    guest.settle();
    const writes = guest.channel.log.filter((t) => t.kind === 'write' && t.gpa >= RX_BUFFERS[0]);
    assert.equal(writes.length, 1);
  });

  test('takes nothing from what arrives late, whether it is started again before or not', () => {
    for (const k of upTo(TX_STEPS - 1)) {
      const guest = rig.start();
      rig.offer(...frames);
      rig.advance(k);
      const base = guest.device.stopQueue(TX_QUEUE);
      const { pending } = guest.channel;
      assert.equal(guest.device.transfersOutstanding, pending > 0);
      guest.channel.deliverAll();
      assert.equal(guest.channel.pending, 0, 'nothing follows');
      assert.equal(guest.device.transfersOutstanding, false);
      guest.device.setQueueBase(TX_QUEUE, base);
      guest.device.startQueue(TX_QUEUE);
      guest.settle();
      assert.equal(guest.reclaimTx(), frames.length);
      guest.close();
    }
    rig.start();
  });

  test('while its hypervisor goes does not wait for answers with the next one', () => {
    const { device, channel } = rig.start();
    rig.offer(...frames);
    rig.advance(1);
    device.reset();
    channel.close();
    assert.equal(device.transfersOutstanding, false);
    const next = new TestMemory(rig.runtime.windows, 1 << 16, { unshared: 'all' });
    const ring = new VirtqueueDriver(next.window, next.base, { size: 8, gpa: 0 });
    device.setDriverFeatures(BASIC);
    device.setMemory(next.memory);
    assert.equal(device.transfersOutstanding, false);
    device.setQueueSize(TX_QUEUE, 8);
    device.setQueueAddresses(TX_QUEUE, { descUser: ring.desc, availUser: ring.avail, usedUser: ring.used });
    device.setQueueBase(TX_QUEUE, 0);
    device.startQueue(TX_QUEUE);
    assert.equal(next.channel!.pending, 1);
    device.reset();
    next.close();
  });
});

describe('a device that is reset', () => {
  for (const [name, offer, steps] of [
    ['transmit', () => void rig.offer(...frames), TX_STEPS],
    ['receive', () => frames.forEach((f) => void rig.arrive(f)), RX_STEPS],
  ] as const)
    for (const k of upTo(steps - 1))
      test(`asks for nothing more, and takes no notice of what comes: ${name}, step ${k + 1}`, () => {
        const guest = rig.start();
        offer();
        rig.advance(k);
        assert.equal(guest.channel.pending, 1);
        guest.device.reset();
        guest.device.setMemory(guest.memory);
        assert.equal(guest.device.transfersOutstanding, true);
        const interrupts = [...guest.interrupts];
        guest.channel.deliverAll();
        guest.device.poll();
        assert.equal(guest.channel.pending, 0);
        assert.equal(guest.device.transfersOutstanding, false);
        assert.deepEqual(guest.interrupts, interrupts);
        assert.deepEqual(rig.broken, []);
      });

  test('and whose transfer is then refused is not broken by it', () => {
    const guest = rig.start();
    rig.offer(...frames);
    rig.advance(2);
    guest.device.reset();
    rig.refuses = () => true;
    guest.channel.deliverAll();
    assert.deepEqual(rig.broken, []);
  });
});

describe('memory that changes', () => {
  const start = (): TestGuest => rig.start({ unshared: PARTS });

  const changed = (): void => {
    rig.guest.memory.settle();
    for (const queue of [RX_QUEUE, TX_QUEUE]) rig.guest.device.relocateQueue(queue);
  };

  /** A part of memory is unmapped and mapped again, as a hypervisor does when it divides a region: its copy is a new one. */
  const replace = (...parts: readonly (readonly [number, number])[]): void => {
    const { ram } = rig.guest;
    for (const [gpa, end] of parts) ram.unmap(gpa, end);
    for (const [gpa, end] of [...parts].reverse()) ram.mapUnshared(gpa, end);
    changed();
  };

  const changes: readonly [string, () => void][] = [
    [
      'elsewhere',
      () => {
        rig.guest.ram.mapUnshared(2 ** 32, 2 ** 32 + 4096);
        changed();
        rig.guest.ram.unmap(2 ** 32, 2 ** 32 + 4096);
        changed();
      },
    ],
    ['in the rings', () => replace(RINGS)],
    ['in the buffers', () => replace(RX_BUFFERS, TX_BUFFERS)],
    ['everywhere', () => replace(...PARTS)],
  ];

  for (const [where, change] of changes) {
    for (const k of upTo(TX_STEPS))
      test(`${where} after ${k} steps: each frame is sent as it is, once, and each chain comes back once`, () => {
        const guest = start();
        rig.offer(...frames);
        for (let i = 0; i < k; i++) {
          // fetched, and not taken yet
          if (guest.channel.pending === 0) guest.device.poll();
          rig.step();
        }
        change();
        guest.device.poll();
        guest.settle();
        assert.deepEqual(
          rig.peer.receive().map((r) => Buffer.from(r.frame)),
          frames.map((f) => Buffer.from(f)),
        );
        assert.equal(guest.reclaimTx(), frames.length);
        assert.equal(guest.interrupts[TX_QUEUE], 1);
        checkTraffic(guest);
      });
    for (const k of upTo(RX_STEPS))
      test(`${where} after ${k} steps: each frame is received as it is, once`, () => {
        const guest = start();
        for (const frame of frames) rig.arrive(frame);
        rig.advance(k);
        change();
        assert.deepEqual(
          guest.receive().map((r) => Buffer.from(r.frame)),
          frames.map((f) => Buffer.from(f)),
        );
        assert.ok(guest.interrupts[RX_QUEUE]! > 0);
        guest.device.kick(RX_QUEUE);
        guest.settle();
        checkTraffic(guest);
      });
  }

  test('elsewhere costs no transfer', () => {
    const guest = start();
    rig.offer(...frames);
    rig.advance(TX_FETCHED - 1);
    const { length } = guest.channel.log;
    for (let i = 0; i < 10; i++) changes[0]![1]();
    rig.step();
    assert.equal(guest.channel.log.length - length, frames.length);
    assert.equal(guest.channel.pending, 0);
    assert.equal(guest.device.poll(), frames.length);
  });

  for (const k of upTo(TX_FETCHED))
    test(`with the buffers gone after ${k} steps, their chains are refused, and come back`, () => {
      const guest = start();
      rig.offer(...frames);
      for (let i = 0; i < k; i++) rig.step();
      guest.ram.unmap(...TX_BUFFERS);
      changed();
      // what is under way for memory that is gone
      rig.refuses = (t) => t.gpa >= TX_BUFFERS[0];
      guest.device.poll();
      guest.settle();
      assert.deepEqual(rig.broken, []);
      assert.deepEqual(rig.sent(), []);
      assert.equal(rig.count('fault_address'), frames.length);
      assert.equal(guest.reclaimTx(), frames.length);
      guest.ram.mapUnshared(...TX_BUFFERS);
      changed();
      rig.refuses = () => false;
      checkTraffic(guest);
    });

  test('by which buffers that were not there come: their chains are fetched, and not sent as they lie here', () => {
    const guest = start();
    guest.ram.unmap(...TX_BUFFERS);
    changed();
    rig.offer(...frames);
    for (let i = 0; i < TX_FETCHED - 1; i++) rig.step();
    assert.equal(guest.channel.pending, 0, 'there is nothing to be fetched');
    guest.ram.mapUnshared(...TX_BUFFERS);
    changed();
    guest.device.poll();
    guest.settle();
    assert.deepEqual(
      rig.peer.receive().map((r) => Buffer.from(r.frame)),
      frames.map((f) => Buffer.from(f)),
    );
  });

  for (const k of upTo(TX_STEPS - 1))
    test(`with the ring gone after ${k} steps stops the queue, and nothing comes of what was under way`, () => {
      const guest = start();
      rig.offer(...frames);
      rig.advance(k);
      guest.ram.unmap(...RINGS);
      guest.memory.settle();
      for (const queue of [RX_QUEUE, TX_QUEUE])
        assert.throws(() => guest.device.relocateQueue(queue), { code: 'EINVAL', message: /cannot start/ });
      const { pending } = guest.channel;
      assert.equal(guest.channel.deliverAll(), pending, 'nothing follows');
      assert.deepEqual(
        guest.device.status().queues.map((q) => q.started),
        [false, false],
      );
      guest.ram.mapUnshared(...RINGS);
      guest.memory.settle();
    });

  test('so that a ring is shared, or not any more: it goes on, and each chain comes back once', () => {
    const guest = rig.start({ unshared: [[RX_BUFFERS[0], RX_BUFFERS[1]]] });
    assert.equal(guest.send(...frames), 3);
    assert.deepEqual(rig.sent(), lengths);
    // its memory stays the guest's own; the device has it by messages from now on
    guest.ram.unmap(0, RX_BUFFERS[0]);
    guest.ram.mapUnshared(0, RX_BUFFERS[0]);
    changed();
    guest.settle();
    assert.equal(guest.send(...frames), 3);
    assert.deepEqual(rig.sent(), lengths);
    checkTraffic(guest);
  });
});
