/**
 * A driver of memory that is not shared, whose transfers are carried out in any order and at any time, sees and sends what
 * the same driver does in shared memory; and whenever it looks, what it is told of is there.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import * as R from '../../../../src/frontends/e1000/registers.js';
import * as D from '../../../../src/frontends/e1000/tx-descriptor.js';
import type { E1000Guest, ReceivedFrame, TxDescriptor } from '../../../support/e1000-driver.js';
import { type E1000Rig, e1000Rig } from '../../../support/e1000-rig.js';
import { buildFrame, pattern } from '../../../support/frames.js';
import { etherFrame, type TestGuest } from '../../../support/test-guest.js';

const rig = e1000Rig();
const PAGE = 4096;
const RING = 32;

/** One driver, and who talks with it. */
class Side {
  readonly guest: E1000Guest;
  readonly other: TestGuest;
  readonly received: ReceivedFrame[] = [];
  readonly sent: string[] = [];
  /** descriptors that were filled, and those of them whose status was asked for and is not there; TDH, counted likewise */
  #filled = 0;
  #asked: number[] = [];
  #head = 0;
  /** receive descriptors that were taken; those that were done when RXT0 came last */
  #taken = 0;
  #told = 0;
  #extra = false;

  constructor(
    rig: E1000Rig,
    readonly name: string,
    shared: boolean,
    rxBufLen: number,
    rctl: number,
  ) {
    const backend = `vale${name}:guest`;
    this.guest = rig.e1000('a', { backend, name, shared, ringSize: RING, rxBufLen, rctl });
    this.other = rig.virtio(`v${name}`, { backend: `vale${name}:other`, queueSize: 256, rxBufLen: 4096 });
    this.guest.settle();
    this.guest.held = true;
  }

  /** Descriptors that the driver may fill. */
  get room(): number {
    const used = (this.guest.txNext - this.guest.read(R.TDH) + RING) % RING;
    return RING - 1 - used;
  }

  queue(...descriptors: TxDescriptor[]): void {
    for (const descriptor of descriptors) {
      if (((descriptor.cmd ?? 0) & D.TXD_CMD_RS) !== 0) this.#asked.push(this.#filled);
      this.#filled++;
      this.guest.queue(descriptor);
    }
  }

  queueContext(fields: Parameters<E1000Guest['queueContext']>[0]): void {
    this.#filled++;
    this.guest.queueContext(fields);
  }

  /** Takes what both have been given. */
  take(): void {
    const { guest } = this;
    const before = guest.rxNext;
    this.received.push(...guest.receive());
    this.#taken += (guest.rxNext - before + RING) % RING;
    for (const { frame } of this.other.receive()) this.sent.push(Buffer.from(frame).toString('hex'));
  }

  /** The driver reads ICR, and looks whether it is true. */
  look(): void {
    const { guest } = this;
    const isDone = (ring: number, at: number): boolean => (guest.word(ring + 16 * (at % RING) + 12) & 1) !== 0;
    const tdh = guest.read(R.TDH);
    const rdh = guest.read(R.RDH);
    const icr = guest.read(R.ICR);
    const left = this.#asked.filter((at) => !isDone(guest.txRing, at));
    if ((icr & R.ICR_TXDW) !== 0) assert.ok(left.length < this.#asked.length, 'TXDW, and nothing is reported');
    this.#asked = left;
    this.#head += (tdh - this.#head + 64 * RING) % RING;
    assert.ok(
      left.every((at) => at >= this.#head),
      'TDH has passed what is not reported',
    );
    if ((icr & R.ICR_TXQE) !== 0) assert.equal(tdh, guest.read(R.TDT), 'TXQE, and the ring is not empty');
    let done = this.#taken;
    while (isDone(guest.rxRing, done)) done++;
    assert.ok(done - this.#taken >= (rdh - guest.rxNext + RING) % RING, 'RDH has passed what is not written');
    if ((icr & R.ICR_RXT0) === 0) return;
    assert.ok(done > this.#told, 'RXT0, and nothing is received');
    this.#told = done;
  }

  /** Memory elsewhere comes or goes, as behind an IOMMU. */
  changeMemory(): void {
    const { guest } = this;
    if (guest.ram.channel !== undefined) {
      if (this.#extra) guest.ram.unmap(guest.size, guest.size + PAGE);
      else guest.ram.mapUnshared(guest.size, guest.size + PAGE);
      this.#extra = !this.#extra;
      guest.memory.settle();
    }
    guest.device.memoryChanged();
  }

  settle(): void {
    this.guest.held = false;
    for (let i = 0; i < 4; i++) {
      this.guest.device.poll();
      this.guest.settle();
      this.take();
    }
    this.guest.held = true;
    this.look();
  }

  close(): void {
    this.guest.close();
    this.other.close();
  }

  /** All that is to be the same in the end. */
  result(): unknown {
    const { guest, name } = this;
    const counters = ['rx_frames', 'rx_bytes', 'tx_frames', 'tx_bytes', 'tx_drop_runt', 'tx_drop_too_long'];
    counters.push('fault_tx_address', 'fault_tx_mixed', 'fault_tx_type', 'fault_tx_segmentation', 'fault_rx_ring');
    counters.push('fault_tx_checksum', 'fault_tx_dma', 'fault_rx_dma', 'rx_drop_disabled', 'rx_drop_address');
    const registers = [R.GPRC, R.TPR, R.GORCL, R.GPTC, R.TPT, R.GOTCL, R.TSCTC, R.TSCTFC, R.TDH, R.TDT, R.RDH, R.RDT];
    return {
      received: this.received.map((got) => ({ ...got, bytes: Buffer.from(got.bytes).toString('hex'), frame: 0 })),
      sent: this.sent,
      counters: counters.map((counter) => [counter, rig.count(name, counter)]),
      registers: registers.map((offset) => guest.read(offset)),
    };
  }
}

type Op = readonly [kind: number, a: number, b: number];

/** What both drivers do; each keeps its own pace in what it takes. */
const actions: readonly ((side: Side, a: number, b: number) => void)[] = [
  // frames come
  (side, a, b) => {
    for (let i = 0; i <= a % 4; i++) {
      const frame = etherFrame([1, 0xff, 9][b % 3]!, 7, 14 + ((a * 37 + i * 401) % 1500));
      frame.set(pattern(frame.length - 14, b + i), 14);
      side.other.send(frame);
    }
  },
  // whole frames go
  (side, a, b) => {
    const frame = etherFrame(0xff, 1, 14 + ((a * 53) % 1500));
    frame.set(pattern(frame.length - 14, b), 14);
    const cmd = D.TXD_CMD_EOP | (b % 4 === 0 ? 0 : D.TXD_CMD_RS) | (b % 5 === 0 ? D.TXD_CMD_IC | (30 << 16) : 0);
    side.queue({ gpa: side.guest.txBuffer(frame), len: frame.length, cmd, opts: (a % 64) << 8 });
  },
  // and in pieces, some of which lie nowhere, or are empty
  (side, a, b) => {
    const frame = etherFrame(0xff, 1, 200 + (a % 1000));
    frame.set(pattern(frame.length - 14, a), 14);
    const gpa = side.guest.txBuffer(frame);
    const data = D.TXD_CMD_DEXT | (1 << D.TXD_DTYP_SHIFT);
    const lost = b % 7 === 0 ? side.guest.size * 2 : 0;
    side.queue(
      { gpa, len: 50, cmd: data },
      { gpa: gpa + 50 + lost, len: b % 3 === 0 ? 0 : 100, cmd: data | (b % 11 === 0 ? D.TXD_CMD_RS : 0) },
      { gpa: gpa + 150, len: frame.length - 150, cmd: data | D.TXD_CMD_EOP | D.TXD_CMD_RS },
    );
  },
  // a context, and a frame that is to be segmented
  (side, a, b) => {
    const spec = {
      ip: 4 as const,
      protocol: 'tcp' as const,
      payload: pattern(100 + (a % 3000)),
      destination: Array(6).fill(255),
    };
    const frame = Uint8Array.from(buildFrame({ ...spec, partialChecksum: true }));
    const field = (value: number) => (b % 13 === 0 ? a % 256 : value);
    side.queueContext({
      ipcss: 14,
      ipcso: 24,
      ipcse: 33,
      tucss: field(34),
      tucso: 50,
      hdrLen: 54,
      mss: 300 + (b % 1000),
      tse: true,
    });
    const cmd = D.TXD_CMD_DEXT | (1 << D.TXD_DTYP_SHIFT) | D.TXD_CMD_TSE | D.TXD_CMD_EOP | D.TXD_CMD_RS;
    side.queue({ gpa: side.guest.txBuffer(frame), len: frame.length, cmd, opts: D.TXD_POPTS_IXSM | D.TXD_POPTS_TXSM });
  },
  // a frame whose end comes with what follows
  (side, a) => side.queue({ gpa: side.guest.txBuffer(etherFrame(0xff, 1, 60, a & 255)), len: 30 }),
  (side) => side.guest.write(R.TDT, side.guest.txNext),
  (side) => side.guest.write(R.TDT, side.guest.txNext),
  (side) => side.guest.write(R.RDT, side.guest.rxTail),
  (side) => void side.guest.device.poll(),
  (side) => side.take(),
  (side) => side.take(),
  (side) => side.changeMemory(),
  (side, a) => side.guest.write(R.TCTL, a % 2 === 0 ? R.TCTL_EN : 0),
  (side) => side.guest.write(R.TCTL, R.TCTL_EN),
  (side, a) => side.guest.write(a % 2 === 0 ? R.IMS : R.IMC, 0xff),
];

function compare(sides: readonly [Side, Side], ops: readonly Op[], vme: number): void {
  const [, remote] = sides;
  remote.guest.channel.readsEarly = ops.length % 2 === 0;
  for (const { guest } of sides) guest.write(R.CTRL, guest.read(R.CTRL) | vme);
  for (const [kind, a, b] of ops) {
    const action = actions[kind];
    if (action === undefined) {
      // what takes no part in shared memory: transfers, and looks
      const { pending } = remote.guest.channel;
      if (pending > 0) remote.guest.channel.deliver(a % pending);
      if (b % 3 !== 0) remote.guest.device.poll();
    } else {
      if (sides.some((side) => side.room < 8)) for (const side of sides) side.settle();
      // a frame without an end can fill the ring
      if (sides.some((side) => side.room < 8)) break;
      for (const side of sides) action(side, a, b);
    }
    for (const side of sides) side.look();
  }
  for (const side of sides) {
    side.guest.write(R.TCTL, R.TCTL_EN);
    side.guest.write(R.TDT, side.guest.txNext);
    side.settle();
    side.look();
  }
  assert.deepEqual(remote.result(), sides[0].result());
}

test('whatever the order and the time, in all that the driver and the network see', () => {
  const op: fc.Arbitrary<Op> = fc.tuple(fc.nat(actions.length + 14), fc.nat(10_000), fc.nat(10_000));
  let run = 0;
  fc.assert(
    fc.property(
      fc.array(op, { minLength: 40, maxLength: 160, size: 'max' }),
      fc.constantFrom(256, 2048),
      fc.constantFrom(0, R.CTRL_VME),
      (ops, rxBufLen, vme) => {
        run++;
        const sides = [true, false].map((shared) => new Side(rig, `${2 * run + Number(shared)}`, shared, rxBufLen, 0));
        try {
          compare(sides as [Side, Side], ops, vme);
        } finally {
          for (const side of sides) side.close();
        }
      },
    ),
    { numRuns: 60 },
  );
});
