import assert from 'node:assert/strict';
import { afterEach, before, beforeEach, describe, test } from 'node:test';
import { RemoteVirtqueue } from '../../../src/frontends/virtio-net/remote-virtqueue.js';
import {
  POP_BROKEN,
  POP_EMPTY,
  POP_MALFORMED,
  type RingAddresses,
  Virtqueue,
  virtqueueFaults,
} from '../../../src/frontends/virtio-net/virtqueue.js';
import { Burst } from '../../../src/memory/burst.js';
import { Iovec } from '../../../src/memory/iovec.js';
import { WindowPool } from '../../../src/memory/window.js';
import { inBothMemories } from '../../support/both-memories.js';
import { TestMemory, type TestMemoryOptions } from '../../support/test-memory.js';
import { VirtqueueDriver } from '../../support/virtqueue-driver.js';

const SIZE = 8;
const MEMORY = 1 << 20;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

let unshared: TestMemoryOptions['unshared'];
let pool: WindowPool;
let ram: TestMemory;
let driver: VirtqueueDriver;
let vq: Virtqueue;
let remote: RemoteVirtqueue;
let interrupts: number;
let iov: Iovec;

beforeEach(() => {
  pool = new WindowPool();
  ram = new TestMemory(pool, MEMORY, { unshared });
  driver = newDriver(SIZE, 0);
  vq = new Virtqueue(pool);
  vq.indirect = true;
  interrupts = 0;
  remote = new RemoteVirtqueue(vq, 0, pool, { available() {}, interrupt: () => interrupts++, broken() {} });
  assert.equal(start(SIZE, driver), undefined);
  iov = new Iovec(64);
});
afterEach(() => {
  remote.close();
  ram.close();
});

/** What holds wherever the ring is. */
function rules(title: string, tests: () => void): void {
  const choose = (is: typeof unshared): void => {
    unshared = is;
  };
  inBothMemories(title, choose, tests);
}

function newDriver(size: number, gpa: number, eventIdx = false): VirtqueueDriver {
  return new VirtqueueDriver(ram.window, ram.base, { size, gpa, eventIdx });
}

function start(size: number, ring: RingAddresses): string | undefined {
  const { memory } = ram;
  return memory.remote === undefined ? vq.start(memory, size, ring) : remote.start(memory.remote, size, ring);
}

function stop(): void {
  remote.stop();
  vq.stop();
}

/** The driver makes available what it added. */
function offer(): void {
  driver.publish();
  if (remote.running) remote.kick();
  ram.channel?.deliverAll();
}

/** The device gives back what it used. True if the driver wants an interrupt. */
function publish(): boolean {
  const published = vq.publish();
  if (!remote.running) return published;
  const before = interrupts;
  if (published) remote.published();
  ram.channel?.deliverAll();
  return interrupts > before;
}

function pop(): number {
  iov.clear();
  offer();
  return vq.popReadable(iov);
}

/** Descriptor i of the ring's own table. */
function desc(i: number, gpa: number, len: number, flags = 0, next = 0): void {
  driver.writeDescriptor(driver.desc, i, gpa, len, flags, next);
}

function fault(): string {
  return virtqueueFaults[vq.fault]!;
}

/** Both ways of taking chains must refuse the same: the kernel leaves to pop whatever is not plain. */
function refused(expected: string): void {
  offer();
  const burst = new Burst(pool);
  assert.equal(vq.popBurst(burst, 8, false), 0);
  burst.close();
  assert.equal(pop(), POP_MALFORMED);
  assert.equal(fault(), expected);
}

rules('a chain', () => {
  test('of any shape is taken whole and in order', () => {
    const buffers = [100, 0, 7, 1500].map((len, i) => ({ gpa: 0x10000 + i * 0x1000, len }));
    const head = driver.add(buffers);
    assert.equal(pop(), head);
    assert.deepEqual([...iov.len.subarray(0, iov.count)], [100, 7, 1500]);
    assert.equal(pop(), POP_EMPTY);
  });

  test('in an indirect table is the same', () => {
    driver.addIndirect(
      [
        { gpa: 0x10000, len: 10 },
        { gpa: 0x20000, len: 20 },
        { gpa: 0x30000, len: 30 },
      ],
      0x8000,
    );
    assert.ok(pop() >= 0);
    assert.equal(iov.total, 60);
  });

  test('that loops is refused', () => {
    desc(0, 0x1000, 10, NEXT, 1);
    desc(1, 0x1000, 10, NEXT, 0);
    driver.offerRaw(0);
    refused('fault_chain_length');
  });

  test('whose next is beyond the table is refused', () => {
    desc(0, 0x1000, 10, NEXT, SIZE);
    driver.offerRaw(0);
    refused('fault_next');
  });

  test('with an address outside guest memory, or crossing its end, is refused', () => {
    for (const [gpa, len] of [
      [MEMORY, 1],
      [MEMORY - 1, 2],
      [2 ** 40, 1],
      [2 ** 63, 1],
    ] as const) {
      desc(0, gpa, len);
      driver.offerRaw(0);
      refused('fault_address');
    }
  });

  test('longer than any frame is refused, also if its single lengths are not', () => {
    desc(0, 0, 2 ** 32 - 1);
    driver.offerRaw(0);
    refused('fault_bytes');
    desc(0, 0, MEMORY - 1, NEXT, 1);
    desc(1, 0, MEMORY - 1);
    driver.offerRaw(0);
    refused('fault_bytes');
  });

  test('with a buffer of the wrong direction is refused', () => {
    desc(0, 0x1000, 10, WRITE);
    driver.offerRaw(0);
    refused('fault_direction');
    desc(0, 0x1000, 10, NEXT, 1);
    desc(1, 0x1000, 10, WRITE);
    driver.offerRaw(0);
    refused('fault_direction');
  });

  test('with a table within a table, a table and a next, a table of odd length or outside memory is refused', () => {
    driver.writeDescriptor(0x8000, 0, 0x9000, 16, INDIRECT, 0);
    for (const [gpa, len, flags] of [
      [0x8000, 16, INDIRECT],
      [0x8000, 16, INDIRECT | NEXT],
      [0x8000, 0, INDIRECT],
      [0x8000, 17, INDIRECT],
    ] as const) {
      desc(0, gpa, len, flags, 1);
      driver.offerRaw(0);
      refused('fault_indirect');
    }
    desc(0, MEMORY - 16, 32, INDIRECT);
    driver.offerRaw(0);
    refused('fault_address');
  });

  test('in an indirect table that was not negotiated is refused', () => {
    vq.indirect = false;
    driver.addIndirect([{ gpa: 0x1000, len: 10 }], 0x8000);
    refused('fault_indirect');
  });

  test('that loops in an indirect table is refused', () => {
    driver.writeDescriptor(0x8000, 0, 0x1000, 1, NEXT, 1);
    driver.writeDescriptor(0x8000, 1, 0x1000, 1, NEXT, 0);
    desc(0, 0x8000, 32, INDIRECT);
    driver.offerRaw(0);
    refused('fault_chain_length');
  });

  test('of more pieces than a list holds is refused', () => {
    const table = 0x8000;
    for (let i = 0; i < 100; i++) driver.writeDescriptor(table, i, 0x1000, 1, i < 99 ? NEXT : 0, i + 1);
    desc(0, table, 1600, INDIRECT);
    driver.offerRaw(0);
    refused('fault_segments');
  });

  test('that is refused does not stop the ones behind it', () => {
    desc(5, MEMORY, 1);
    driver.offerRaw(5);
    const good = driver.add([{ gpa: 0x1000, len: 60 }]);
    assert.equal(pop(), POP_MALFORMED);
    assert.equal(vq.malformedHead, 5);
    assert.equal(pop(), good);
  });
});

rules('a ring', () => {
  test('with a head beyond the table is broken, and served no further', () => {
    driver.offerRaw(SIZE);
    assert.equal(pop(), POP_BROKEN);
    assert.equal(fault(), 'fault_head');
  });

  test('whose available index jumps by more than its size is broken', () => {
    driver.availIdx = SIZE + 1;
    assert.equal(pop(), POP_BROKEN);
    assert.equal(fault(), 'fault_avail_idx');
    assert.ok(!vq.hasAvail());
  });

  test('of one descriptor works', () => {
    stop();
    driver = newDriver(1, 0x40000);
    assert.equal(start(1, driver), undefined);
    for (let i = 0; i < 3; i++) {
      const head = driver.add([{ gpa: 0x1000, len: 60 }]);
      assert.equal(pop(), head);
      vq.pushUsed(head, 0);
      publish();
      assert.deepEqual(driver.reclaim(), { head, len: 0 });
    }
  });

  test('goes on where indexes wrap round, by single chains and by bursts', () => {
    const burst = new Burst(pool);
    stop();
    driver.availIdx = 65500;
    driver.usedIdx = 65500;
    driver.write16(driver.avail + 2, 65500);
    driver.write16(driver.used + 2, 65500);
    vq.setBase(65500);
    start(SIZE, driver);
    for (let n = 0; n < 200; n += 4) {
      const heads = [0, 1, 2, 3].map(() => driver.add([{ gpa: 0x1000, len: 60 }]));
      offer();
      if (n % 8 === 0) {
        assert.equal(vq.popBurst(burst, 64, false), 4);
        for (let i = 0; i < 4; i++) burst.setDone(i, 0);
        vq.pushBurst(burst, 4, false);
      } else
        for (const head of heads) {
          iov.clear();
          assert.equal(vq.popReadable(iov), head);
          vq.pushUsed(head, 0);
        }
      publish();
      assert.deepEqual(
        heads.map(() => driver.reclaim()?.head),
        heads,
      );
    }
    burst.close();
  });

  test('that lies outside guest memory, is misaligned or of a wrong size does not start', () => {
    stop();
    for (const [size, desc, avail, used] of [
      [8, MEMORY - 100, 0, 0],
      [8, 8, 0, 0],
      [8, 0, 1, 0],
      [8, 0, MEMORY - 20, 0],
      [8, 0, 0, 2],
      [8, 0, 0, MEMORY - 64],
      [6, 0, 0, 0],
      [0, 0, 0, 0],
    ] as const)
      assert.equal(typeof start(size, { desc, avail, used }), 'string', `${size} ${desc} ${avail} ${used}`);
    assert.ok(!vq.started);
  });
});

describe('a ring of which only parts are shared', () => {
  const size = 256;
  // the descriptor table, the available and the used ring, each on a page of its own
  for (let bits = 1; bits < 8; bits++) {
    const parts = [0, 1, 2].filter((i) => (bits >> i) & 1);
    const names = parts.map((i) => ['descriptor table', 'available ring', 'used ring'][i]).join(', ');
    describe(`not shared: ${names}`, () => {
      before(() => {
        unshared = parts.map((i) => [0x40000 + 4096 * i, 0x41000 + 4096 * i] as const);
      });

      test('is served, and the driver finds used chains in order', () => {
        stop();
        driver = new VirtqueueDriver(ram.window, ram.base, { size, gpa: 0x40000, usedAlign: 4096 });
        driver.write16(driver.used, 1);
        assert.equal(start(size, driver), undefined);
        ram.channel!.deliverAll();
        assert.equal(driver.read16(driver.used), 0, 'notifications are wanted');
        for (let n = 0; n < 3 * size; n += 5) {
          const heads = [1, 2, 3, 4, 5].map((len) => driver.add([{ gpa: 0x1000, len }]));
          offer();
          for (const head of heads) {
            iov.clear();
            assert.equal(vq.popReadable(iov), head);
            vq.pushUsed(head, head);
          }
          assert.equal(publish(), true);
          assert.deepEqual(
            heads.map(() => driver.reclaim()),
            heads.map((head) => ({ head, len: head })),
          );
        }
      });
    });
  }
});

rules('interrupts', () => {
  function serve(n: number): boolean {
    for (let i = 0; i < n; i++) driver.add([{ gpa: 0x1000, len: 60 }]);
    offer();
    for (let i = 0; i < n; i++) {
      iov.clear();
      vq.pushUsed(vq.popReadable(iov), 0);
    }
    const wanted = publish();
    while (driver.reclaim() !== undefined);
    return wanted;
  }

  test('are given unless the driver asked for none', () => {
    assert.equal(serve(1), true);
    driver.wantInterrupts(false);
    assert.equal(serve(1), false);
  });

  test('with event index, are given when the index asked for is passed, once', () => {
    vq.eventIdx = true;
    driver = newDriver(SIZE, 0, true);
    driver.write16(driver.avail + 4 + 2 * SIZE, 2);
    assert.equal(serve(1), false);
    assert.equal(serve(1), false);
    assert.equal(serve(1), true);
    assert.equal(serve(1), false);
  });

  test('are not given when nothing was returned', () => {
    assert.equal(publish(), false);
  });
});

describe('notifications', () => {
  before(() => {
    unshared = undefined;
  });

  test('are switched off while polling and asked for again; what came in between is found', () => {
    vq.suppressKicks();
    driver.add([{ gpa: 0x1000, len: 60 }]);
    assert.equal(driver.publish(), false);
    assert.equal(vq.enableKicks(), true);
    assert.equal(pop() >= 0, true);
    assert.equal(vq.enableKicks(), false);
    driver.add([{ gpa: 0x1000, len: 60 }]);
    assert.equal(driver.publish(), true);
  });
});
