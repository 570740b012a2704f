/**
 * A driver of the 82545EM that writes any value into any register, and anything into its rings: bases and lengths
 * that change while they are served, heads and tails anywhere, descriptors of any kind that point anywhere, with
 * contexts that place checksums and headers anywhere; resets, memory and configuration that come and go in between.
 *
 * The controller may write what a receive descriptor covers, and descriptors. So a shadow of the guest's memory is
 * kept, and read-only buffers and memory that nobody names lie beside it as canaries. The pin is always what causes
 * and mask say, frames still pass between two other guests, and no callback may have thrown.
 *
 * Likewise with rings and most buffers in memory that is not shared, whose transfers are carried out at any time and in
 * any order, and at times refused.
 */
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';
import { E1000 } from '../../src/frontends/e1000/device.js';
import * as R from '../../src/frontends/e1000/registers.js';
import * as D from '../../src/frontends/e1000/tx-descriptor.js';
import { GuestMemory, type RegionSpec } from '../../src/memory/guest-memory.js';
import { openBackend } from '../../src/net-backends/registry.js';
import type { Fd } from '../../src/sys/fd.js';
import { ftruncate, memfdCreate } from '../../src/sys/memfd.js';
import { Bystanders } from '../support/bystanders.js';
import { bufferBits } from '../support/e1000-driver.js';
import { withoutHeader } from '../support/e1000-rig.js';
import { buildFrame, pattern } from '../support/frames.js';
import { type TestRuntime, testRuntime } from '../support/runtime.js';
import { etherFrame } from '../support/test-guest.js';
import { type Decisions, type FuzzTarget, fuzzMain } from './harness.js';
import { UnsharedRegion } from './unshared.js';

const RX_RING = 0x1000;
const TX_RING = 0x2000;
const RING_SIZE = 64;
const BUFFERS = 0x4000;
const BUFFER_BYTES = 2048;
const BUFFER_COUNT = 64;
const MAIN_SIZE = BUFFERS + BUFFER_BYTES * BUFFER_COUNT;
/** buffers that are only sent from */
const READ_ONLY_GPA = 0x5a_1000_0000;
/** memory that no descriptor names */
const UNNAMED_GPA = 0x69_2000_0000;
const CANARY_SIZE = 0x10000;
const FILL = 0xa5;

const places = R.registerMap.flatMap(({ offset, count = 1, stride = 4, alias }) => [
  ...(count > 200 ? [offset] : Array.from({ length: count }, (_, i) => offset + i * stride)),
  ...(alias === undefined ? [] : [alias]),
]);
/** registers that a program of few bytes should find often */
const busy = [R.CTRL, R.RCTL, R.TCTL, R.RDT, R.TDT, R.RDH, R.TDH, R.ICS, R.IMS, R.IMC, R.ICR, R.RXCSUM, R.MDIC, R.EECD];
const ringRegisters = [R.RDBAL, R.RDBAL + 4, R.RDLEN, R.TDBAL, R.TDBAL + 4, R.TDLEN];
const aliasedRings = [0x110, 0x114, 0x118, 0x420, 0x424, 0x428];

class E1000Target implements FuzzTarget {
  readonly name: string;
  readonly maxBytes = 1500;
  readonly #runtime: TestRuntime = testRuntime();
  readonly #errors: unknown[] = [];
  readonly #fd: Fd;
  readonly #memory: GuestMemory;
  readonly #main: Uint8Array;
  readonly #canaries: readonly Uint8Array[];
  /** on the switch, on a backend that gives back what is sent, on one without headers */
  readonly #devices: readonly E1000[];
  readonly #bystanders: Bystanders;
  readonly #unshared: UnsharedRegion | undefined;

  constructor(shared: boolean) {
    this.name = shared ? 'e1000' : 'e1000-unshared';
    const runtime = this.#runtime;
    runtime.mevent.onError = (error) => this.#errors.push(error);
    runtime.loop.onError = (error) => this.#errors.push(error);
    this.#memory = new GuestMemory(runtime.windows);
    this.#fd = memfdCreate('fuzz');
    ftruncate(this.#fd.number, MAIN_SIZE + 2 * CANARY_SIZE);
    const add = (spec: RegionSpec): Uint8Array => {
      this.#memory.addRegion(spec);
      const place = { win: 0, off: 0 };
      assert.ok(this.#memory.locate(spec.gpa, spec.size, place));
      return runtime.windows.windows[place.win]!.u8.subarray(place.off, place.off + spec.size);
    };
    if (shared) this.#main = add(this.#mainSpec);
    else {
      this.#unshared = new UnsharedRegion(runtime.windows, this.#memory, this.#fd.number, this.#mainSpec);
      this.#main = this.#unshared.bytes;
    }
    const canary = (gpa: number, mmapOffset: number) =>
      add({ gpa, size: CANARY_SIZE, userAddr: gpa, mmapOffset, fd: this.#fd.number, pageSize: 4096 });
    this.#canaries = [canary(READ_ONLY_GPA, MAIN_SIZE), canary(UNNAMED_GPA, MAIN_SIZE + CANARY_SIZE)];
    for (const bytes of this.#canaries) bytes.fill(FILL);
    const nic = (name: string, backend: string, wrap = (b: ReturnType<typeof openBackend>) => b) =>
      new E1000({
        runtime,
        name,
        mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
        interruptLimits: { gapUs: 0, transmitUs: 0 },
        openBackend: (onReceive) => wrap(openBackend(runtime, backend, onReceive, name)),
      });
    this.#devices = [nic('e1', 'vale0:e1'), nic('e2', 'loopback0'), nic('e3', 'loopback1', withoutHeader)];
    this.#bystanders = new Bystanders(runtime);
    this.#bystanders.checkTraffic();
  }

  get #mainSpec(): RegionSpec {
    return { gpa: 0, size: MAIN_SIZE, userAddr: 0, mmapOffset: 0, fd: this.#fd.number, pageSize: 4096 };
  }

  run(input: Decisions): void {
    const device = this.#devices[Math.max(0, input.below(8) - 5)]!;
    const driver = new HostileDriver(input, device, this.#memory, this.#main);
    driver.around = {
      step: () => {
        this.#runtime.loop.step(0);
        this.#unshared?.deliver(input);
      },
      detached: () => this.#unshared?.disconnect(),
      receive: (frame) => void this.#bystanders.guests[0].send(frame),
      withoutMemory: (what) => {
        this.#memory.removeRegion(0, MAIN_SIZE, 0);
        device.memoryChanged();
        what();
        if (this.#unshared !== undefined) this.#unshared.map();
        else {
          this.#memory.addRegion(this.#mainSpec);
          const place = { win: 0, off: 0 };
          assert.ok(this.#memory.locate(0, MAIN_SIZE, place));
          assert.equal(place.off, this.#main.byteOffset, 'the region comes back where it was');
        }
        device.memoryChanged();
      },
    };
    driver.run();
    this.#unshared?.deliverAll();
    driver.check();
    device.detach();
    this.#unshared?.disconnect();
    assert.equal(driver.pin, false);
    const [readOnly, unnamed] = this.#canaries as [Uint8Array, Uint8Array];
    const whole = (canary: Uint8Array) => canary.every((byte) => byte === FILL);
    assert.ok(whole(unnamed), 'memory that nobody named was written');
    // a receive ring that lies on the transmit ring offers what was to be sent
    if (!driver.blurred) assert.ok(whole(readOnly), 'memory that was to be sent was written');
    else readOnly.fill(FILL);
    this.#bystanders.checkTraffic();
    if (this.#errors.length > 0) throw this.#errors[0];
  }

  close(): void {
    for (const device of this.#devices) device.close();
    this.#bystanders.close();
    this.#memory.close();
    this.#unshared?.close();
    this.#fd.close();
    this.#runtime.close();
  }
}

/** Reads an input as a driver's actions. */
class HostileDriver {
  around!: {
    step(): void;
    /** the hypervisor has gone */
    detached(): void;
    receive(frame: Uint8Array): void;
    withoutMemory(what: () => void): void;
  };
  pin = false;
  readonly #in: Decisions;
  readonly #device: E1000;
  readonly #memory: GuestMemory;
  readonly #main: Uint8Array;
  /** what the memory would hold if only the driver wrote */
  readonly #shadow = new Uint8Array(MAIN_SIZE).fill(FILL);
  /** 1: the controller may write this byte */
  readonly #offered = new Uint8Array(MAIN_SIZE);
  /** rings lay where there are no descriptors, or others: the shadow says nothing then */
  blurred = false;
  /** an interrupt may be held back: ITR was written */
  #throttled = false;
  #rxTail = 0;
  #txTail = 0;
  #buffer = 0;

  constructor(input: Decisions, device: E1000, memory: GuestMemory, main: Uint8Array) {
    this.#in = input;
    this.#device = device;
    this.#memory = memory;
    this.#main = main;
    main.fill(FILL);
  }

  run(): void {
    const d = this.#in;
    this.#attach();
    this.#setUp();
    while (!d.done) {
      d.pick(this.#actions)(d);
      this.#checkPin();
    }
    this.around.step();
    this.#checkPin();
  }

  /** Only what was offered has changed. */
  check(): void {
    if (this.blurred) return;
    for (let i = 0; i < MAIN_SIZE; i++)
      if (this.#main[i] !== this.#shadow[i] && this.#offered[i] === 0)
        assert.fail(`byte 0x${i.toString(16)} was written, and no descriptor offers it`);
  }

  /** The pin is up exactly while an unmasked cause is there, unless messages are sent, or ITR holds it back. */
  #checkPin(): void {
    const pending = (this.#read(R.ICS) & this.#read(R.IMS)) !== 0;
    if (!pending) assert.equal(this.pin, false, 'the pin is up without a cause');
    else if (!this.#throttled && !this.#device.config.msiEnabled) assert.ok(this.pin, 'a cause, and the pin is down');
  }

  readonly #actions: readonly ((d: Decisions) => void)[] = [
    (d) => this.#write(d.pick(busy), this.#value(d)),
    (d) => this.#write(d.pick(places), this.#value(d)),
    (d) => this.#write(d.pick(places), this.#value(d)),
    (d) => this.#read(d.pick(places)),
    (d) => d.oneIn(4) && this.#ringRegister(d),
    (d) => this.#oddAccess(d),
    (d) => d.oneIn(2) && this.#setUp(),
    (d) => d.oneIn(4) && this.#write(R.CTRL, R.CTRL_RST),
    () => this.#post(),
    () => this.#post(),
    (d) => this.#postAnything(d),
    (d) => this.#sendDecent(d),
    (d) => this.#sendDecent(d),
    (d) => this.#sendBig(d),
    (d) => this.#sendAnything(d),
    (d) => this.#sendAnything(d),
    (d) => this.around.receive(this.#frame(d)),
    (d) => this.around.receive(this.#frame(d)),
    () => this.around.step(),
    (d) => this.#device.setLink(!d.oneIn(3)),
    (d) => d.oneIn(4) && this.#config(d),
    (d) => d.oneIn(8) && this.#withoutMemory(d),
    (d) => d.oneIn(16) && this.#reattach(),
  ];

  // ---- registers and configuration ----

  #attach(): void {
    this.#device.attach(this.#memory, {
      intx: (level) => {
        this.pin = level;
      },
      msi: () => {},
      msix: () => {},
    });
    this.#device.config.write(4, Uint8Array.of(7, 0));
    this.#device.configChanged();
  }

  #reattach(): void {
    this.#device.detach();
    this.around.detached();
    assert.equal(this.pin, false);
    this.#throttled = false;
    this.#attach();
  }

  #config(d: Decisions): void {
    const off = d.pick([4, 0xdc + 4, 0xf0 + 2, 0x10]);
    this.#device.config.write(off, Uint8Array.of(off === 4 ? d.pick([7, 7, 3, 0]) : d.pick([0, 0, 1, 3]), 0));
    this.#device.configChanged();
    // a message that was sent does not become a level
    if (off === 0xf0 + 2) this.#throttled = true;
  }

  #read(offset: number): number {
    const value = this.#device.readBar(0, offset, 4);
    assert.ok(Number.isInteger(value) && value >= 0 && value <= 0xffffffff);
    return value;
  }

  #write(offset: number, value: number): void {
    if (ringRegisters.includes(offset) || aliasedRings.includes(offset)) this.blurred = true;
    // larger buffers than the driver has: what lies behind them may be written too
    if (offset === R.RCTL && (value & R.RCTL_BSEX) !== 0) this.blurred = true;
    if (offset === R.ITR) this.#throttled = true;
    this.#device.writeBar(0, offset, 4, value >>> 0);
  }

  #value(d: Decisions): number {
    return (
      d.pick([() => d.u32(), () => d.u8(), () => 0xffffffff, () => 0, () => 1 << d.below(32), () => d.u16() << 4])() >>>
      0
    );
  }

  /** Bases within memory or far out, lengths of anything; at times the ring lies in the middle of buffers. */
  #ringRegister(d: Decisions): void {
    this.blurred = true;
    this.#write(
      d.pick(ringRegisters),
      d.pick([0, 0x80, 0x400, d.below(MAIN_SIZE), d.u32(), MAIN_SIZE - 0x80, 0xffffff80]),
    );
  }

  #oddAccess(d: Decisions): void {
    const bar = d.pick([0, 0, 1, 2]);
    const size = d.pick([1, 2, 4] as const);
    const off = bar === 2 ? d.below(9 - size) : d.pick([d.u16(), d.pick(places)]) % (0x10000 - 4);
    const value = this.#device.readBar(bar, off, size);
    assert.ok(value >= 0 && value < 2 ** (8 * size));
    // through the I/O window any register may be reached
    if (bar === 2) {
      this.blurred = true;
      this.#throttled = true;
    }
    if (bar !== 0 || size !== 4) this.#device.writeBar(bar, off, size, d.u8());
  }

  /** Rings where they belong, as a decent driver does it. */
  #setUp(): void {
    const d = this.#in;
    const size = d.oneIn(3) ? 8 : RING_SIZE;
    this.#offered.fill(1, RX_RING, RX_RING + 16 * RING_SIZE);
    this.#offered.fill(1, TX_RING, TX_RING + 16 * RING_SIZE);
    const write = (offset: number, value: number) => this.#device.writeBar(0, offset, 4, value);
    for (const [base, ring] of [
      [R.RDBAL, RX_RING],
      [R.TDBAL, TX_RING],
    ] as const) {
      write(base, ring);
      write(base + 4, 0);
      write(base + 8, size * 16);
      write(base + 16, 0);
      write(base + 24, 0);
    }
    this.#rxTail = 0;
    this.#txTail = 0;
    // a smaller buffer than the descriptors offer may be used, not a larger one
    const bits = bufferBits(d.pick([256, 512, 1024, 2048]));
    const modes = d.pick([0, R.RCTL_UPE, R.RCTL_LPE | R.RCTL_MPE, R.RCTL_SECRC, R.RCTL_VFE]);
    write(R.RCTL, R.RCTL_EN | R.RCTL_BAM | bits | modes);
    write(R.CTRL, R.CTRL_SLU | (d.oneIn(2) ? R.CTRL_VME : 0));
    write(R.RXCSUM, d.pick([0, R.RXCSUM_IPOFLD | R.RXCSUM_TUOFLD, R.RXCSUM_TUOFLD | 14]));
    write(R.TCTL, R.TCTL_EN);
    write(R.IMS, 0xffffffff);
    if (!d.oneIn(3)) for (let i = 0; i < 5; i++) this.#post();
  }

  // ---- descriptors ----

  #poke(at: number, bytes: Uint8Array): void {
    this.#main.set(bytes, at);
    this.#shadow.set(bytes, at);
  }

  #descriptor(at: number, gpa: number, word2: number, word3: number): void {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, gpa >>> 0, true);
    view.setUint32(4, Math.floor(gpa / 2 ** 32), true);
    view.setUint32(8, word2 >>> 0, true);
    view.setUint32(12, word3 >>> 0, true);
    this.#poke(at, bytes);
  }

  get #size(): number {
    return Math.min(RING_SIZE, Math.max(1, this.#read(R.TDLEN) / 16));
  }

  #nextBuffer(): number {
    return BUFFERS + BUFFER_BYTES * (this.#buffer++ % BUFFER_COUNT);
  }

  #post(gpa = this.#nextBuffer()): void {
    if (gpa + BUFFER_BYTES <= MAIN_SIZE) this.#offered.fill(1, gpa, gpa + BUFFER_BYTES);
    this.#descriptor(RX_RING + 16 * this.#rxTail, gpa, 0, 0);
    this.#rxTail = (this.#rxTail + 1) % this.#size;
    this.#write(R.RDT, this.#rxTail);
  }

  /** A buffer at any place that is not a canary. */
  #postAnything(d: Decisions): void {
    this.#post(d.pick([0, 1, BUFFERS + d.below(4096), MAIN_SIZE - 1, MAIN_SIZE, 2 ** 40, 2 ** 52, 0xffffffff]));
    if (d.oneIn(2)) this.blurred = true;
  }

  #transmit(gpa: number, word2: number, word3: number): void {
    this.#descriptor(TX_RING + 16 * this.#txTail, gpa, word2, word3);
    this.#txTail = (this.#txTail + 1) % this.#size;
  }

  /** The memory goes while rings are served, and comes back. */
  #withoutMemory(d: Decisions): void {
    this.around.withoutMemory(() => {
      this.around.receive(this.#frame(d));
      this.#kick(d);
    });
  }

  #kick(d: Decisions): void {
    this.#write(R.TDT, this.#txTail);
    if (d.oneIn(2)) this.around.step();
  }

  #sendDecent(d: Decisions): void {
    const frame = this.#frame(d);
    const gpa = this.#nextBuffer();
    this.#poke(gpa, frame.subarray(0, BUFFER_BYTES));
    const legacy = d.oneIn(2);
    const kind = legacy ? 0 : D.TXD_CMD_DEXT | (1 << D.TXD_DTYP_SHIFT);
    const options = d.pick([0, D.TXD_CMD_VLE, D.TXD_CMD_IC, D.TXD_CMD_IDE, d.u8() << 16]);
    const cut = d.oneIn(2) ? d.below(frame.length) : 0;
    const word3 = legacy ? d.u8() << 8 : d.u16() << 8;
    if (cut > 0) this.#transmit(gpa, cut | kind | options, word3);
    this.#transmit(gpa + cut, (frame.length - cut) | kind | options | D.TXD_CMD_EOP | D.TXD_CMD_RS, word3);
    this.#kick(d);
  }

  /** A context that is nearly right, and data to segment. */
  #sendBig(d: Decisions): void {
    const spec = { ip: d.pick([4, 6] as const), protocol: d.pick(['tcp', 'udp'] as const), payload: pattern(1500) };
    const frame = Uint8Array.from(buildFrame(spec));
    const gpa = this.#nextBuffer();
    this.#poke(gpa, frame);
    const off = (value: number) => (d.oneIn(6) ? d.u8() : value);
    const l4 = spec.ip === 4 ? 34 : 54;
    const word0 = off(14) | (off(24) << 8) | (off(l4 - 1) << 16);
    const word1 = off(l4) | (off(l4 + (spec.protocol === 'tcp' ? 16 : 6)) << 8);
    const command = (spec.protocol === 'tcp' ? 0x01000000 : 0) | (spec.ip === 4 ? 0x02000000 : 0) | 0x04000000;
    const at = TX_RING + 16 * this.#txTail;
    this.#descriptor(
      at,
      word0 + word1 * 2 ** 32,
      off(100) | command | D.TXD_CMD_DEXT,
      (off(l4 + 20) << 8) | (off(200) << 16),
    );
    this.#txTail = (this.#txTail + 1) % this.#size;
    const cmd = D.TXD_CMD_DEXT | (1 << D.TXD_DTYP_SHIFT) | D.TXD_CMD_TSE | D.TXD_CMD_EOP | D.TXD_CMD_RS;
    this.#transmit(gpa, frame.length | cmd | d.pick([0, D.TXD_CMD_VLE]), (d.u8() << 8) | (d.u16() << 16));
    this.#kick(d);
  }

  #sendAnything(d: Decisions): void {
    const gpa = d.pick([
      this.#nextBuffer(),
      READ_ONLY_GPA + d.below(CANARY_SIZE),
      READ_ONLY_GPA + CANARY_SIZE - 1,
      MAIN_SIZE - 3,
      0,
      2 ** 40,
      2 ** 63,
    ]);
    this.#transmit(gpa, d.u32(), d.u32());
    if (!d.oneIn(3)) this.#kick(d);
  }

  /** Ethernet, IPv4 or IPv6, TCP or UDP, with details of any kind. */
  #frame(d: Decisions): Uint8Array {
    const frame = etherFrame(d.pick([1, 2, 3, 0xff]), d.pick([1, 2, 9]), d.pick([14, 60, 100, 200, 1514, 1900]), 0x5a);
    const ipv4 = [8, 0, 0x45, 0, 0, frame.length - 14, 0, 0, 0, 0, 64, d.pick([6, 17])];
    const ipv6 = [0x86, 0xdd, 0x60, 0, 0, 0, 0, frame.length - 54, d.pick([6, 17, 44]), 64];
    const tagged = [0x81, 0, 0, 5, ...ipv4];
    const pause = [0x88, 8, 0, 1, 0, 0];
    frame.set(d.pick([ipv4, ipv6, tagged, pause]).slice(0, frame.length - 12), 12);
    for (let n = d.below(4); n > 0; n--) frame[d.below(Math.min(64, frame.length))] = d.u8();
    return frame;
  }
}

export function makeTarget(): FuzzTarget {
  return new E1000Target(true);
}

export function makeUnsharedTarget(): FuzzTarget {
  return new E1000Target(false);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) fuzzMain(makeTarget);
