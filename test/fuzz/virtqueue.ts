/**
 * A driver that writes anything into its rings: descriptors that point anywhere, loops, tables within
 * tables, indices that jump, headers that ask for impossible offloads, while frames come and go.
 *
 * The device may write only what a descriptor with VIRTQ_DESC_F_WRITE covers, and its used rings. So a
 * shadow of the guest's memory is kept: every byte that differs afterwards must have been offered.
 * Read-only buffers and memory that nobody names lie beside it as canaries. Frames must still pass
 * between two other guests, and no callback may have thrown.
 *
 * Likewise with rings and buffers in memory that is not shared, whose transfers are carried out at any time and in any order,
 * and at times refused.
 */
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';
import { RX_QUEUE, TX_QUEUE, VirtioNet } from '../../src/frontends/virtio-net/device.js';
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../../src/frontends/virtio-net/virtqueue.js';
import { GuestMemory } from '../../src/memory/guest-memory.js';
import type { NetBackend } from '../../src/net-backends/net-backend.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { ftruncate, memfdCreate } from '../../src/sys/memfd.js';
import * as F from '../../src/wire/virtio-features.js';
import { Bystanders } from '../support/bystanders.js';
import { type TestRuntime, testRuntime } from '../support/runtime.js';
import { etherFrame } from '../support/test-guest.js';
import { ringBytes } from '../support/virtqueue-driver.js';
import { type Decisions, type FuzzTarget, fuzzMain } from './harness.js';
import { UnsharedRegion } from './unshared.js';

const USER = 0x7f0000000000;
/** rings, tables, buffers */
const RING_GPA = [0x1000, 0x3000] as const;
const TABLE_GPA = 0x6000;
const BUFFER_GPA = 0x8000;
const MAIN_SIZE = 0x28000;
/** buffers that are offered for reading only */
const READ_ONLY_GPA = 0x5a_1000_0000;
/** memory that no descriptor names */
const UNNAMED_GPA = 0x69_2000_0000;
const CANARY_SIZE = 0x10000;
const MAX_SIZE = 64;
const FILL = 0xa5;

const optionalFeatures = [
  F.VIRTIO_F_VERSION_1,
  F.VIRTIO_NET_F_MRG_RXBUF,
  F.VIRTIO_F_INDIRECT_DESC,
  F.VIRTIO_F_EVENT_IDX,
  F.VIRTIO_NET_F_CSUM | F.VIRTIO_NET_F_HOST_TSO4 | F.VIRTIO_NET_F_HOST_TSO6 | F.VIRTIO_NET_F_HOST_UFO,
  F.VIRTIO_NET_F_GUEST_CSUM | F.VIRTIO_NET_F_GUEST_TSO4 | F.VIRTIO_NET_F_GUEST_TSO6,
];

class VirtqueueTarget implements FuzzTarget {
  readonly name: string;
  readonly maxBytes = 1500;
  readonly #runtime: TestRuntime = testRuntime();
  readonly #errors: unknown[] = [];
  readonly #memory: GuestMemory;
  /** the hostile one's NIC: on the switch, on a backend without bursts, on one without headers */
  readonly #devices: readonly VirtioNet[];
  readonly #bystanders: Bystanders;
  readonly #main: Uint8Array;
  readonly #canaries: readonly Uint8Array[];
  readonly #unshared: UnsharedRegion | undefined;

  constructor(shared: boolean) {
    this.name = shared ? 'virtqueue' : 'virtqueue-unshared';
    const runtime = this.#runtime;
    runtime.mevent.onError = (error) => this.#errors.push(error);
    runtime.loop.onError = (error) => this.#errors.push(error);
    this.#memory = new GuestMemory(runtime.windows);
    const fd = memfdCreate('fuzz');
    ftruncate(fd.number, MAIN_SIZE + 2 * CANARY_SIZE);
    const add = (gpa: number, size: number, mmapOffset: number): Uint8Array => {
      this.#memory.addRegion({ gpa, size, userAddr: USER + gpa, mmapOffset, fd: fd.number, pageSize: 4096 });
      const place = { win: 0, off: 0 };
      assert.ok(this.#memory.locate(gpa, size, place));
      return runtime.windows.windows[place.win]!.u8.subarray(place.off, place.off + size);
    };
    if (shared) this.#main = add(0, MAIN_SIZE, 0);
    else {
      this.#unshared = new UnsharedRegion(runtime.windows, this.#memory, fd.number, {
        gpa: 0,
        size: MAIN_SIZE,
        userAddr: USER,
      });
      this.#main = this.#unshared.bytes;
    }
    this.#canaries = [
      add(READ_ONLY_GPA, CANARY_SIZE, MAIN_SIZE),
      add(UNNAMED_GPA, CANARY_SIZE, MAIN_SIZE + CANARY_SIZE),
    ];
    fd.close();
    for (const canary of this.#canaries) canary.fill(FILL);
    const nic = (name: string, backend: string, change: (backend: NetBackend) => void = () => {}) =>
      new VirtioNet({
        runtime,
        name,
        mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
        openBackend: (onReceive) => {
          const opened = openBackend(runtime, backend, onReceive, name);
          change(opened);
          return opened;
        },
      });
    const withoutHeader = (backend: NetBackend) => {
      backend.getCap = () => 0n;
      backend.setCap = () => false;
    };
    this.#devices = [nic('vm1', 'vale0:vm1'), nic('vm4', 'loopback0'), nic('vm5', 'loopback1', withoutHeader)];
    this.#bystanders = new Bystanders(runtime);
    this.#bystanders.checkTraffic();
  }

  run(input: Decisions): void {
    const device = this.#devices[Math.max(0, input.below(8) - 5)]!;
    const driver = new HostileDriver(input, device, this.#memory, this.#main);
    driver.around = {
      step: () => {
        this.#runtime.loop.step(0);
        this.#unshared?.deliver(input);
      },
      receive: (frame) => void this.#bystanders.guests[0].send(frame),
    };
    driver.run();
    device.reset();
    this.#unshared?.deliverAll();
    driver.check();
    for (const canary of this.#canaries)
      assert.ok(
        canary.every((byte) => byte === FILL),
        'memory that was not offered for writing was written',
      );
    this.#bystanders.checkTraffic();
    this.#runtime.records.length = 0;
    if (this.#errors.length > 0) throw this.#errors[0];
  }

  close(): void {
    for (const device of this.#devices) device.close();
    this.#memory.close();
    this.#unshared?.close();
    this.#bystanders.close();
    this.#runtime.close();
  }
}

/** Reads an input as a driver's actions on its two queues. */
class HostileDriver {
  around!: { step(): void; receive(frame: Uint8Array): void };
  readonly #in: Decisions;
  readonly #device: VirtioNet;
  readonly #main: Uint8Array;
  readonly #memory: GuestMemory;
  /** what the memory would hold if only the driver wrote */
  readonly #shadow = new Uint8Array(MAIN_SIZE).fill(FILL);
  /** 1: the device may write this byte */
  readonly #offered = new Uint8Array(MAIN_SIZE);
  /** the device may change tables or rings, or read tables where there are none: the shadow says nothing then */
  #blurred = false;
  readonly #sizes = [MAX_SIZE, MAX_SIZE];
  readonly #availIdx = [0, 0];
  #nextBuffer = 0;

  constructor(input: Decisions, device: VirtioNet, memory: GuestMemory, main: Uint8Array) {
    this.#in = input;
    this.#device = device;
    this.#memory = memory;
    this.#main = main;
    main.fill(FILL);
  }

  run(): void {
    const d = this.#in;
    const bits = d.oneIn(3) ? d.u8() : 0xff;
    this.#device.setDriverFeatures(
      optionalFeatures.reduce((all, f, i) => ((bits >> i) & 1 ? all | f : all), 0n) & this.#device.deviceFeatures,
    );
    this.#device.setMemory(this.#memory);
    for (const queue of [RX_QUEUE, TX_QUEUE]) this.#start(queue);
    if (!d.oneIn(4)) for (let i = 0; i < 4; i++) this.#postBuffer();
    while (!d.done) d.pick(this.#actions)(d);
    this.around.step();
  }

  /** Only what was offered has changed. */
  check(): void {
    if (this.#blurred) return;
    for (let i = 0; i < MAIN_SIZE; i++)
      if (this.#main[i] !== this.#shadow[i] && this.#offered[i] === 0)
        assert.fail(`byte 0x${i.toString(16)} was written, and no descriptor offers it`);
  }

  readonly #actions: readonly ((d: Decisions) => void)[] = [
    (d) => this.#writeAndOffer(d.below(2), d.below(MAX_SIZE)),
    (d) => this.#writeAndOffer(d.below(2), d.below(MAX_SIZE)),
    (d) => this.#write(d.below(2), d.below(MAX_SIZE)),
    (d) => this.#writeTable(d.below(128)),
    (d) => this.#writeTable(d.below(128)),
    (d) => this.#offer(d.below(2), d.oneIn(16) ? d.u16() : d.below(8)),
    (d) => this.#publish(d.below(2)),
    (d) => this.#publish(d.below(2)),
    (d) => d.oneIn(8) && this.#jump(d.below(2), d.u16()),
    () => this.#postBuffer(),
    () => this.#postBuffer(),
    () => this.#sendFrame(),
    () => this.#sendFrame(),
    (d) => this.around.receive(this.#frameFor(d)),
    (d) => this.around.receive(this.#frameFor(d)),
    () => this.around.step(),
    (d) => d.oneIn(4) && this.#restart(d.below(2)),
    (d) => this.#device.enableQueue(d.below(2), !d.oneIn(4)),
    (d) => d.oneIn(8) && this.#device.setLink(false),
    () => this.#device.setLink(true),
    (d) => this.#poke(this.#availOf(d.below(2)), Uint8Array.of(d.below(2), 0)),
    (d) => this.#loop(d.below(2), d.below(8)),
  ];

  // ---- rings ----

  #start(queue: number): void {
    const d = this.#in;
    const size = d.oneIn(3) ? 1 << d.below(7) : MAX_SIZE;
    const base = d.oneIn(3) ? d.u16() : 0;
    this.#sizes[queue] = size;
    this.#availIdx[queue] = base;
    this.#poke(this.#availOf(queue), Uint8Array.of(0, 0, base & 255, base >> 8));
    this.#poke(this.#usedOf(queue), Uint8Array.of(0, 0, base & 255, base >> 8));
    this.#device.setQueueSize(queue, size);
    this.#device.setQueueAddresses(queue, {
      descUser: USER + RING_GPA[queue as 0 | 1],
      availUser: USER + this.#availOf(queue),
      usedUser: USER + this.#usedOf(queue),
    });
    this.#device.setQueueBase(queue, base);
    this.#device.setNotifier(queue, () => {});
    this.#offered.fill(1, this.#usedOf(queue), this.#usedOf(queue) + 6 + 8 * size);
    this.#device.startQueue(queue);
    this.#device.enableQueue(queue, true);
  }

  #restart(queue: number): void {
    this.#device.stopQueue(queue);
    if (this.#in.oneIn(8)) this.#startAnywhere(queue);
    this.#start(queue);
  }

  /** A ring whose parts lie anywhere, on top of each other, across the end of memory. */
  #startAnywhere(queue: number): void {
    const d = this.#in;
    this.#blurred = true;
    const at = () =>
      USER + d.pick([d.below(MAIN_SIZE), d.below(MAIN_SIZE / 16) * 16, MAIN_SIZE - 2 * d.below(32), 2 ** 40]);
    this.#device.setQueueAddresses(queue, { descUser: at(), availUser: at(), usedUser: at() });
    try {
      this.#device.startQueue(queue);
    } catch {
      return; // refused, as most are
    }
    this.#device.enableQueue(queue, true);
    this.#device.kick(queue);
    this.around.step();
    this.#device.stopQueue(queue);
  }

  #availOf(queue: number): number {
    return RING_GPA[queue as 0 | 1] + 16 * MAX_SIZE;
  }

  #usedOf(queue: number): number {
    return RING_GPA[queue as 0 | 1] + Math.ceil(ringBytes(MAX_SIZE) / 4096) * 4096 - 1024;
  }

  /** Puts a head into the available ring. */
  #offer(queue: number, head: number): void {
    const slot = this.#availIdx[queue]! % this.#sizes[queue]!;
    this.#poke(this.#availOf(queue) + 4 + 2 * slot, Uint8Array.of(head & 255, head >> 8));
    this.#availIdx[queue] = (this.#availIdx[queue]! + 1) & 0xffff;
  }

  #publish(queue: number): void {
    const idx = this.#availIdx[queue]!;
    this.#poke(this.#availOf(queue) + 2, Uint8Array.of(idx & 255, idx >> 8));
    this.#device.kick(queue);
    if (this.#in.oneIn(2)) this.around.step();
    // a driver that has broken its ring resets it, or the rest of the program would do nothing
    if (this.#device.status().queues[queue]!.broken) this.#restart(queue);
  }

  #jump(queue: number, idx: number): void {
    this.#availIdx[queue] = idx;
    this.#publish(queue);
  }

  // ---- descriptors ----

  #writeAndOffer(queue: number, i: number): void {
    this.#write(queue, i % this.#sizes[queue]!);
    this.#offer(queue, i % this.#sizes[queue]!);
    this.#publish(queue);
  }

  #write(queue: number, i: number): void {
    this.#descriptor(RING_GPA[queue as 0 | 1] + 16 * i, i, MAX_SIZE);
  }

  #writeTable(i: number): void {
    this.#descriptor(TABLE_GPA + 16 * i, i % 8, 8);
  }

  /** A descriptor with anything in it, at `at`. */
  #descriptor(at: number, i: number, tableSize: number): void {
    const d = this.#in;
    const flags = d.oneIn(8) ? d.u16() : d.below(8);
    const next = d.oneIn(4) ? (d.oneIn(4) ? d.u16() : d.below(tableSize)) : i + 1;
    const readOnly = (flags & VIRTQ_DESC_F_WRITE) === 0;
    const len = d.oneIn(8) ? d.u32() : d.pick([0, 1, 9, 10, 12, 13, 26, 60, 300, 1500, 2048, 4096, 0xffff, 0x100000]);
    if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
      const table = TABLE_GPA + 128 * d.below(16);
      const odd = d.oneIn(16) ? 1 + d.below(16) : 0;
      // read out of step, the entries of a table can say anything
      if (odd > 0) this.#blurred = true;
      this.#put(at, table + odd, d.oneIn(6) ? len : 16 * d.below(9), flags, next);
    } else this.#put(at, this.#address(readOnly, len), len, flags, next);
  }

  #address(readOnly: boolean, len: number): number {
    const d = this.#in;
    switch (d.below(8)) {
      case 0:
        return MAIN_SIZE - d.below(16);
      case 1:
        return d.pick([MAIN_SIZE, 2 ** 32 - 1, 2 ** 53, 2 ** 63, 2 ** 64 - 4096, UNNAMED_GPA + CANARY_SIZE]);
      case 2:
        return readOnly ? READ_ONLY_GPA + d.below(CANARY_SIZE) : 0;
      case 3:
        return readOnly ? d.below(BUFFER_GPA) : BUFFER_GPA + len;
      default:
        return BUFFER_GPA + d.below(MAIN_SIZE - BUFFER_GPA);
    }
  }

  #put(at: number, gpa: number, len: number, flags: number, next: number): void {
    const view = new DataView(new ArrayBuffer(16));
    view.setBigUint64(0, BigInt(gpa) & 0xffff_ffff_ffff_ffffn, true);
    view.setUint32(8, len, true);
    view.setUint16(12, flags, true);
    view.setUint16(14, next, true);
    this.#poke(at, new Uint8Array(view.buffer));
    if ((flags & VIRTQ_DESC_F_WRITE) === 0 || gpa >= MAIN_SIZE) return;
    this.#offered.fill(1, gpa, Math.min(gpa + len, MAIN_SIZE));
    if (gpa < BUFFER_GPA) this.#blurred = true;
  }

  #poke(at: number, bytes: Uint8Array): void {
    this.#main.set(bytes, at);
    this.#shadow.set(bytes, at);
  }

  /** A chain that never ends. */
  #loop(queue: number, i: number): void {
    const flags = VIRTQ_DESC_F_NEXT | (queue === RX_QUEUE ? VIRTQ_DESC_F_WRITE : 0);
    this.#put(RING_GPA[queue as 0 | 1] + 16 * i, this.#buffer(), 1, flags, i);
    this.#offer(queue, i);
    this.#publish(queue);
  }

  // ---- what a decent driver does ----

  #buffer(): number {
    return BUFFER_GPA + 2048 * (this.#nextBuffer++ % 64);
  }

  #postBuffer(): void {
    const i = this.#in.below(this.#sizes[RX_QUEUE]!);
    this.#put(RING_GPA[RX_QUEUE] + 16 * i, this.#buffer(), 2048, VIRTQ_DESC_F_WRITE, 0);
    this.#offer(RX_QUEUE, i);
    this.#publish(RX_QUEUE);
  }

  /** A frame whose virtio header says anything, in one buffer or two. */
  #sendFrame(): void {
    const d = this.#in;
    const header = d.oneIn(2) ? d.take(12) : Uint8Array.of(d.below(4), d.below(6), 54, 0, 0, 2, 34, 0, 16, 0, 0, 0);
    const frame = this.#frameFor(d);
    const gpa = this.#buffer();
    this.#poke(gpa, Buffer.concat([header, frame]).subarray(0, 2048));
    const i = d.below(this.#sizes[TX_QUEUE]!);
    const total = Math.min(2048, header.length + frame.length);
    const cut = d.oneIn(2) ? d.below(total) : 0;
    if (cut === 0) this.#put(RING_GPA[TX_QUEUE] + 16 * i, gpa, total, 0, 0);
    else {
      const j = (i + 1) % this.#sizes[TX_QUEUE]!;
      this.#put(RING_GPA[TX_QUEUE] + 16 * i, gpa, cut, VIRTQ_DESC_F_NEXT, j);
      this.#put(RING_GPA[TX_QUEUE] + 16 * j, gpa + cut, total - cut, 0, 0);
    }
    this.#offer(TX_QUEUE, i);
    this.#publish(TX_QUEUE);
  }

  /** Ethernet, IPv4 or IPv6, TCP or UDP, with details of any kind. */
  #frameFor(d: Decisions): Uint8Array {
    const frame = etherFrame(d.pick([1, 2, 3, 0xff]), d.pick([1, 2, 9]), d.pick([14, 60, 100, 1514, 1900]), 0x5a);
    const ipv4 = [8, 0, 0x45, 0, 0, frame.length - 14, 0, 0, 0, 0, 64, d.pick([6, 17])];
    const ipv6 = [0x86, 0xdd, 0x60, 0, 0, 0, 0, frame.length - 54, d.pick([6, 17, 44]), 64];
    frame.set([d.pick([ipv4, ipv6])].flat().slice(0, frame.length - 12), 12);
    for (let n = d.below(4); n > 0; n--) frame[d.below(Math.min(64, frame.length))] = d.u8();
    return frame;
  }
}

export function makeTarget(): FuzzTarget {
  return new VirtqueueTarget(true);
}

export function makeUnsharedTarget(): FuzzTarget {
  return new VirtqueueTarget(false);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) fuzzMain(makeTarget);
