/** Rings against a model of them, under random interleavings of what their users do. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { NS_BUF_CHANGED, NS_MOREFRAG, NS_NO_LEARN } from '../../../src/netmap/abi.js';
import { pipeReleaseSlots, pipeSendSlots } from '../../../src/netmap/pipe-slots.js';
import type { NetmapPort } from '../../../src/netmap/port.js';
import { ModelPipeEnd, ModelPort, type ModelSlot, ModelSwitch } from '../../support/netmap-model.js';
import { NetmapRig } from '../../support/netmap-ports.js';

const PORTS = 3;

/** What one user does next. */
type Step =
  | { do: 'put'; port: number; to: number; from: number; slots: number; len: number; end: boolean; noLearn: boolean }
  | { do: 'txsync' | 'rxsync'; port: number }
  | { do: 'consume'; port: number; slots: number; swap: boolean };

const port = fc.nat(PORTS - 1);
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('put' as const),
        port,
        to: fc.constantFrom(0, 1, 2, 3, 4, 5, 99, 255),
        from: fc.constantFrom(0, 1, 2, 3, 4, 5),
        slots: fc.constantFrom(1, 1, 1, 2, 3),
        len: fc.integer({ min: 20, max: 2048 }),
        end: fc.constantFrom(true, true, true, true, false),
        noLearn: fc.constantFrom(false, false, false, true),
      }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('txsync' as const, 'rxsync' as const), port }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('consume' as const), port, slots: fc.nat(8), swap: fc.boolean() }),
    },
  ),
  { minLength: 1, maxLength: 120 },
);

interface Pair {
  real: NetmapPort;
  model: ModelPort;
}

let serial = 0;

/** The slots of a frame: full buffers, and the rest in the last one. */
function slotsOf(step: Extract<Step, { do: 'put' }>): ModelSlot[] {
  return Array.from({ length: step.slots }, (_, i) => {
    // full buffers but for a frame's last: so it takes as many slots however it comes
    const bytes = new Uint8Array(i < step.slots - 1 || !step.end ? 2048 : step.len).fill(++serial & 255);
    if (i === 0) bytes.set([step.to === 255 ? 255 : 2, 0, 0, 0, 0, step.to, 2, 0, 0, 0, 0, step.from]);
    return { bytes, more: i < step.slots - 1 || !step.end, ...(step.noLearn ? { noLearn: true } : {}) };
  });
}

function put({ real, model }: Pair, step: Extract<Step, { do: 'put' }>): void {
  const tx = real.txRings[0]!;
  const slots = slotsOf(step);
  assert.equal(tx.space(), model.txSpace, 'slots that are free to send');
  if (model.txSpace < slots.length) return;
  for (const { bytes, more, noLearn } of slots) {
    tx.window.u8.set(bytes, tx.slotOff(tx.head));
    const flags = (more ? NS_MOREFRAG : 0) | (noLearn ? NS_NO_LEARN : 0);
    tx.setLenAndFlags(tx.head, bytes.length, flags);
    tx.advance(1);
  }
  model.tx.push(...slots);
}

function consume({ real, model }: Pair, slots: number, swap: boolean): void {
  const rx = real.rxRings[0]!;
  assert.equal(rx.space(), model.visible - model.consumed, 'slots with frames');
  for (const { bytes, more } of model.consume(Math.min(slots, rx.space()))) {
    const off = rx.slotOff(rx.head);
    assert.deepEqual(rx.window.u8.subarray(off, off + rx.len(rx.head)), bytes);
    assert.equal((rx.slotFlags(rx.head) & NS_MOREFRAG) !== 0, more);
    if (swap && real.bufsHead !== 0) {
      // takes the buffer out of the ring, and puts a spare one there
      const { u32 } = real.memory.window;
      const spare = real.bufsHead;
      const idx = rx.bufIdx(rx.head);
      real.bufsHead = u32[real.memory.bufOff(spare) >>> 2]!;
      u32[real.memory.bufOff(idx) >>> 2] = real.bufsHead;
      real.bufsHead = idx;
      rx.setBufIdx(rx.head, spare);
      rx.setSlotFlags(rx.head, NS_BUF_CHANGED);
    }
    rx.advance(1);
  }
}

function run(pairs: readonly Pair[], todo: readonly Step[], txsync: (pair: Pair) => void): void {
  for (const step of todo) {
    const pair = pairs[step.port % pairs.length] as Pair;
    if (step.do === 'put') put(pair, step);
    else if (step.do === 'consume') consume(pair, step.slots, step.swap);
    else if (step.do === 'txsync') txsync(pair);
    else {
      pair.real.rxsync();
      pair.model.rxsync();
    }
  }
}

describe('a VALE switch of ports with rings does what the model does', () => {
  const rings = fc.array(
    fc.record({ txSlots: fc.integer({ min: 4, max: 24 }), rxSlots: fc.integer({ min: 2, max: 24 }) }),
    {
      minLength: PORTS,
      maxLength: PORTS,
    },
  );
  for (const [how, kernel, windowBytes] of [
    ['through the kernel', true, undefined],
    ['frame by frame', false, undefined],
    // what one window does not hold lies in others, which the kernel of one does not reach
    ['with its ports in different windows', true, 2 ** 25],
  ] as const)
    test(how, () => {
      const rig = new NetmapRig(windowBytes === undefined ? {} : { windowBytes });
      fc.assert(
        fc.property(rings, steps, (sizes, todo) => {
          const models = sizes.map(({ txSlots, rxSlots }) => new ModelPort(txSlots, rxSlots));
          const vale = new ModelSwitch(models);
          const pairs = models.map((model, i) => ({
            model,
            real: rig.open(`vale0:p${i}`, { ...sizes[i], extraBufs: 4 }),
          }));
          if (!kernel)
            for (const { kernel: functions } of rig.runtime.windows.windows) functions.valeSend = (_tx, at) => at;
          try {
            run(pairs, todo, ({ real, model }) => {
              real.txsync();
              vale.txsync(model);
            });
            for (const [i, { real, model }] of pairs.entries()) {
              real.rxsync();
              model.rxsync();
              consume({ real, model }, Number.POSITIVE_INFINITY, false);
              assert.equal(rig.runtime.count(`rings vale0:p${i}`, 'rx_drop_full'), model.dropped);
            }
          } finally {
            rig.closePorts();
          }
        }),
        { numRuns: 200 },
      );
      rig.close();
    });
});

describe('a pipe does what the model does', () => {
  for (const kernel of [true, false])
    test(kernel ? 'through the kernel' : 'in plain TypeScript', () => {
      const rig = new NetmapRig();
      fc.assert(
        fc.property(
          fc.integer({ min: 2, max: 24 }),
          fc.integer({ min: 2, max: 24 }),
          steps,
          (txSlots, rxSlots, todo) => {
            const rig = new NetmapRig();
            const models = [new ModelPipeEnd(txSlots, rxSlots), new ModelPipeEnd(rxSlots, txSlots)] as const;
            models[0].peer = models[1];
            models[1].peer = models[0];
            const names = ['vale0:p{1', 'vale0:p}1'];
            const pairs = models.map((model, i) => ({
              model,
              real: rig.open(names[i] as string, { txSlots, rxSlots, extraBufs: 4 }),
            }));
            if (!kernel) inPlainTypeScript(pairs.map(({ real }) => real));
            try {
              run(pairs, todo, ({ real, model }) => {
                real.txsync();
                (model as ModelPipeEnd).txsync();
              });
              for (const { real, model } of pairs) {
                real.rxsync();
                model.rxsync();
                consume({ real, model }, Number.POSITIVE_INFINITY, false);
              }
              const { memory } = pairs[0]!.real;
              const buffers = pairs.flatMap(({ real }) => [...real.adapter.buffers()]);
              assert.equal(new Set(buffers).size, txSlots + rxSlots, 'each buffer is in one slot');
              assert.ok(buffers.every((idx) => memory.isBuf(idx)));
            } finally {
              rig.closePorts();
            }
          },
        ),
        { numRuns: 100 },
      );
      rig.close();
    });
});

/** Makes the ends of a pipe do without the kernel. */
function inPlainTypeScript(ports: readonly NetmapPort[]): void {
  const krings = new Map(ports.flatMap((p) => [...p.txKrings, ...p.rxKrings]).map((kring) => [kring.off, kring]));
  const { kernel } = ports[0]!.memory.window;
  kernel.pipeSend = (tx, rx, head) => pipeSendSlots(krings.get(tx)!, krings.get(rx)!, head);
  kernel.pipeRelease = (rx, tx, head) => pipeReleaseSlots(krings.get(rx)!, krings.get(tx)!, head);
}
