/**
 * The same driver does the same with two NICs, one in shared memory, one in memory that is not shared, whose transfers are carried
 * out at any time and in any order that is allowed: it sees the same.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RX_QUEUE, TX_QUEUE } from '../../../src/frontends/virtio-net/device.js';
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../../../src/wire/virtio-features.js';
import { type TestRuntime, testRuntime } from '../../support/runtime.js';
import { etherFrame, TestGuest } from '../../support/test-guest.js';
import type { TestMemoryOptions } from '../../support/test-memory.js';
import type { Buffer as DriverBuffer, VirtqueueDriver } from '../../support/virtqueue-driver.js';

const SIZE = 16;
const PAGE = 4096;
const RINGS_END = 3 * PAGE;
const RX_SLOT = 2 * PAGE;
const TX_SLOT = 4 * PAGE;
const TX_START = RINGS_END + SIZE * RX_SLOT;
const MEMORY_END = TX_START + SIZE * TX_SLOT;
const HDR = 12;

/** Ways to spoil the first descriptor of a chain; 'none' most often. */
const spoils = ['none', 'none', 'none', 'none', 'address', 'direction', 'length', 'next', 'loop', 'nested'] as const;
type Spoil = (typeof spoils)[number];

interface Shape {
  /** bytes of each buffer but the last */
  cuts: number[];
  indirect: boolean;
  spoil: Spoil;
  /** where in its slot it begins */
  shift: number;
}

type Action =
  | { kind: 'transmit'; length: number; shape: Shape }
  | { kind: 'post'; length: number; shape: Shape }
  | { kind: 'publish' }
  | { kind: 'arrive'; length: number }
  | { kind: 'reap' };

interface Program {
  features: bigint;
  base: number;
  actions: Action[];
  /** parts behind the rings that are not shared, by pages */
  unshared: readonly (readonly [number, number])[];
  /** what happens between actions while memory is not shared */
  schedule: number[];
}

/** One driver with one NIC, and what it saw. */
class World {
  readonly guest: TestGuest;
  readonly peer: TestGuest;
  /** number and bytes of each used chain, by queue; with what was received */
  readonly used: [number, number, string][][] = [[], []];
  readonly sent: string[] = [];
  readonly #program: Program;
  readonly #remote: boolean;
  readonly #chains: Map<number, { number: number; buffers: DriverBuffer[] }>[] = [new Map(), new Map()];
  readonly #slots = [0, 0];
  #interruptsSeen = [0, 0];
  #at = 0;

  constructor(runtime: TestRuntime, program: Program, unshared: TestMemoryOptions['unshared']) {
    this.#program = program;
    this.#remote = unshared !== undefined;
    this.peer = new TestGuest(runtime, { backend: 'vale0:peer', name: 'peer' });
    this.guest = new TestGuest(runtime, {
      ...{ backend: 'vale0:nic', name: 'nic', features: program.features, unshared },
      ...{ queueSize: SIZE, rxBuffers: 0, rxBufLen: RX_SLOT, txBufLen: TX_SLOT },
    });
    const { device } = this.guest;
    // the driver begins anew when the device is done with its memory
    for (const queue of [RX_QUEUE, TX_QUEUE]) device.stopQueue(queue);
    this.guest.settle();
    for (const [queue, ring] of this.#rings.entries()) {
      ring.availIdx = program.base;
      ring.usedIdx = program.base;
      ring.write16(ring.avail + 2, program.base);
      ring.write16(ring.used + 2, program.base);
      device.setQueueBase(queue, program.base);
      device.startQueue(queue);
      this.#wantInterrupt(ring);
    }
  }

  get #rings(): readonly [VirtqueueDriver, VirtqueueDriver] {
    return [this.guest.rx, this.guest.tx];
  }

  run(): void {
    for (const action of this.#program.actions) {
      this.#do(action);
      this.#pass();
    }
    this.#publish();
    this.settle();
  }

  #do(action: Action): void {
    if (action.kind === 'transmit') this.#add(TX_QUEUE, action.length, action.shape);
    else if (action.kind === 'post') this.#add(RX_QUEUE, action.length, action.shape);
    else if (action.kind === 'publish') this.#publish();
    else if (action.kind === 'reap') this.#reap();
    else this.peer.send(etherFrame(0xff, 1, action.length, action.length & 0xff));
  }

  // ---- what the driver does ----

  #add(queue: 0 | 1, length: number, { cuts, indirect, spoil, shift }: Shape): void {
    const ring = this.#rings[queue];
    const useTable = indirect && (this.#program.features & VIRTIO_F_INDIRECT_DESC) !== 0n;
    const needed = useTable ? 1 : cuts.length + 1;
    if (ring.freeDescriptors < needed) {
      // both drivers wait until everything is done that can be, and then have the same
      this.#publish();
      this.settle();
      if (ring.freeDescriptors < needed) return;
    }
    const number = this.#slots[queue]!++;
    const start = queue === TX_QUEUE ? TX_START + (number % SIZE) * TX_SLOT : RINGS_END + (number % SIZE) * RX_SLOT;
    const table = start;
    const gpa = start + 256 + shift;
    const bytes = this.guest.bytes(gpa, length);
    if (queue === TX_QUEUE) {
      bytes.fill(0, 0, Math.min(HDR, length));
      if (length > HDR + 14) bytes.set(etherFrame(0xff, 2, length - HDR, number & 0xff), HDR);
    } else bytes.fill(0xee);
    const buffers: DriverBuffer[] = [];
    let done = 0;
    for (const cut of cuts) {
      const len = Math.min(cut, length - done);
      buffers.push({ gpa: gpa + done, len, writable: queue === RX_QUEUE });
      done += len;
    }
    buffers.push({ gpa: gpa + done, len: length - done, writable: queue === RX_QUEUE });
    const head = useTable ? ring.addIndirect(buffers, table) : ring.add(buffers);
    this.#spoil(
      ring,
      useTable ? table : ring.desc,
      useTable ? 0 : head,
      useTable ? buffers.length : SIZE,
      spoil,
      buffers[0]!,
    );
    this.#chains[queue]!.set(head, { number, buffers });
  }

  #spoil(
    ring: VirtqueueDriver,
    table: number,
    i: number,
    size: number,
    spoil: Spoil,
    { gpa, len, writable = false }: DriverBuffer,
  ): void {
    const flags = writable ? 2 : 0;
    if (spoil === 'address') ring.writeDescriptor(table, i, 2 ** 40, len + 1, flags, 0);
    else if (spoil === 'direction') ring.writeDescriptor(table, i, gpa, len, 2 - flags, 0);
    else if (spoil === 'length') ring.writeDescriptor(table, i, gpa, 2 ** 20 + 1, flags, 0);
    else if (spoil === 'next') ring.writeDescriptor(table, i, gpa, len, flags | 1, size);
    else if (spoil === 'loop') ring.writeDescriptor(table, i, gpa, len, flags | 1, i);
    else if (spoil === 'nested') ring.writeDescriptor(table, i, table, 17, 4, 0);
  }

  /** As a driver does it: notifies only if the device asks for it. */
  #publish(): void {
    for (const [queue, ring] of this.#rings.entries()) if (ring.publish()) this.guest.device.kick(queue);
  }

  #reap(): void {
    for (const [queue, ring] of this.#rings.entries()) {
      for (let got = ring.reclaim(); got !== undefined; got = ring.reclaim()) {
        const { number, buffers } = this.#chains[queue]!.get(got.head)!;
        this.used[queue]!.push([number, got.len, queue === RX_QUEUE ? this.#written(buffers) : '']);
      }
      this.#wantInterrupt(ring);
      this.#interruptsSeen[queue] = this.guest.interrupts[queue]!;
    }
  }

  /** All of the buffers: that no more was written than is said is a part of it. */
  #written(buffers: readonly DriverBuffer[]): string {
    return Buffer.concat(buffers.map(({ gpa, len }) => this.guest.bytes(gpa, len))).toString('base64');
  }

  /** Then it looks once more, as it must. */
  #wantInterrupt(ring: VirtqueueDriver): void {
    ring.wantInterrupts(true);
  }

  // ---- what the others do ----

  #pass(): void {
    if (this.#remote) this.#scheduled();
    else this.guest.device.poll();
    this.#receive();
  }

  #receive(): void {
    const { peer } = this;
    for (const { frame } of peer.receive()) this.sent.push(Buffer.from(frame).toString('base64'));
    peer.device.kick(RX_QUEUE);
  }

  #scheduled(): void {
    const { schedule } = this.#program;
    const { channel, device } = this.guest;
    const what = schedule[this.#at++ % schedule.length]!;
    for (let i = 0; i < what % 5; i++) channel.deliver((what >> 3) % Math.max(1, channel.pending));
    if (what % 2 === 0) device.poll();
    if (what % 17 === 0) this.#replace();
    assert.ok(channel.pending <= 2, 'one batch a queue');
  }

  /** Memory is divided anew, and all copies with it. */
  #replace(): void {
    const { ram, memory, device } = this.guest;
    for (const [gpa, end] of unsharedOf(this.#program)) {
      ram.unmap(gpa, end);
      ram.mapUnshared(gpa, end);
    }
    memory.settle();
    for (const queue of [RX_QUEUE, TX_QUEUE]) device.relocateQueue(queue);
  }

  /** Until nothing happens any more; then the driver has heard of everything. */
  settle(): void {
    const { guest } = this;
    for (let quiet = 0; quiet < 3; quiet++) {
      if ((guest.ram.channel?.deliverAll() ?? 0) + guest.device.poll() > 0) quiet = 0;
      this.#receive();
    }
    for (const [queue, ring] of this.#rings.entries())
      if (ring.read16(ring.used + 2) !== ring.usedIdx)
        assert.ok(guest.interrupts[queue]! > this.#interruptsSeen[queue]!, `queue ${queue}: an interrupt is missing`);
    this.#reap();
    assert.deepEqual([...this.#rings.map((r) => r.availIdx)], [...this.#rings.map((r) => r.read16(r.avail + 2))]);
    assert.equal(guest.tx.usedIdx, guest.tx.availIdx, 'everything that was published is used');
  }

  counters(): Record<string, number> {
    const { names, values } = this.guest.device.counters;
    const entries = names.map((name, i) => [name, values[i]!] as const);
    // how often it waits and interrupts is a matter of time
    return Object.fromEntries(entries.filter(([name]) => name !== 'rx_starved' && name !== 'interrupts'));
  }

  close(): void {
    this.guest.close();
    this.peer.close();
  }
}

function unsharedOf({ unshared }: Program): (readonly [number, number])[] {
  const at = (page: number): number => Math.min(RINGS_END + page * PAGE, MEMORY_END);
  const parts: (readonly [number, number])[] = [[0, RINGS_END]];
  for (const [from, to] of unshared) {
    const gpa = Math.max(at(from), parts.at(-1)![1]);
    if (at(to) > gpa) parts.push([gpa, at(to)]);
  }
  return parts;
}

const shape: fc.Arbitrary<Shape> = fc.record({
  cuts: fc.array(fc.oneof(fc.constantFrom(0, 1, 10, 11, 12, 13), fc.integer({ min: 0, max: 2000 })), { maxLength: 5 }),
  indirect: fc.boolean(),
  spoil: fc.constantFrom(...spoils),
  shift: fc.nat(3000),
});
const frameLength = fc.oneof(fc.integer({ min: 14, max: 200 }), fc.integer({ min: 14, max: 4500 }));
const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ kind: fc.constant('transmit' as const), length: fc.oneof(frameLength, fc.nat(30)), shape }),
  fc.record({ kind: fc.constant('post' as const), length: fc.integer({ min: 1, max: 4500 }), shape }),
  fc.record({ kind: fc.constant('arrive' as const), length: frameLength }),
  fc.constantFrom<Action>({ kind: 'publish' }, { kind: 'publish' }, { kind: 'reap' }),
);
const program: fc.Arbitrary<Program> = fc.record({
  features: fc
    .subarray([VIRTIO_NET_F_MRG_RXBUF, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX])
    .map((some) => some.reduce((all, f) => all | f, VIRTIO_F_VERSION_1)),
  base: fc.constantFrom(0, 65520, 65530, 65535),
  actions: fc.array(action, { minLength: 1, maxLength: 120, size: 'max' }),
  unshared: fc
    .array(fc.tuple(fc.nat(30), fc.nat(96)), { maxLength: 4 })
    .map((parts) => parts.sort(([a], [b]) => a - b)),
  schedule: fc.array(fc.nat(1000), { minLength: 1, maxLength: 50 }),
});

test('a driver sees the same, whether its memory is shared or not', () => {
  const runtimes = [testRuntime(), testRuntime()] as const;
  const seen = { transmit: 0, receive: 0, faults: 0 };
  fc.assert(
    fc.property(program, (p) => {
      const worlds = [new World(runtimes[0], p, undefined), new World(runtimes[1], p, unsharedOf(p))] as const;
      try {
        for (const world of worlds) world.run();
        const [shared, unshared] = worlds;
        assert.deepEqual(unshared.counters(), shared.counters());
        assert.deepEqual(unshared.sent, shared.sent);
        assert.deepEqual(unshared.used, shared.used);
        seen.transmit += shared.sent.length;
        seen.receive += shared.used[RX_QUEUE]!.length;
        for (const [name, n] of Object.entries(shared.counters())) if (name.startsWith('fault_')) seen.faults += n;
      } finally {
        for (const world of worlds) world.close();
      }
    }),
    { numRuns: 150 },
  );
  for (const runtime of runtimes) runtime.close();
  assert.ok(seen.transmit > 100 && seen.receive > 100 && seen.faults > 100, JSON.stringify(seen));
});
