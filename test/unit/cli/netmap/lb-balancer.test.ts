/** lb's balancer on rings in memory: nothing is lost but what is counted, and no buffer is ever in two places. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Balancer, LbInput, LbPipe } from '../../../../src/cli/netmap/lb-balancer.js';
import { WindowPool } from '../../../../src/memory/window.js';
import { NR_BUF_OFS, NR_BUF_SIZE, NR_NUM_SLOTS, NR_SLOTS, NS_MOREFRAG } from '../../../../src/netmap/abi.js';
import { NetmapRing } from '../../../../src/netmap/ring.js';

const SLOTS = 8;
const BUF = 64;
const RING_BYTES = NR_SLOTS + SLOTS * 16;

/** Rings over one region of buffers, each slot with a buffer of its own. */
class Lab {
  readonly #pool = new WindowPool(1 << 20);
  readonly #mapping = this.#pool.mapAnonymous(1 << 18);
  readonly rings: NetmapRing[] = [];
  nextBuf = 2;

  ring(): NetmapRing {
    const { window, off } = this.#mapping;
    const at = off + this.rings.length * RING_BYTES;
    window.u32[(at + NR_NUM_SLOTS) >>> 2] = SLOTS;
    window.u32[(at + NR_BUF_SIZE) >>> 2] = BUF;
    window.u32[(at + NR_BUF_OFS) >>> 2] = off + 65536 - at;
    const ring = new NetmapRing(window, at);
    for (let i = 0; i < SLOTS; i++) ring.setBufIdx(i, this.nextBuf++);
    this.rings.push(ring);
    return ring;
  }

  close(): void {
    this.#mapping.close();
  }
}

function run(extra: number, groups: readonly number[], steps: readonly number[]): number {
  const lab = new Lab();
  const input = lab.ring();
  const pipes = groups.map((n, g) => Array.from({ length: n }, (_, i) => new LbPipe(`${g}.${i}`, txRing(lab), extra)));
  const free = Array.from({ length: extra }, () => lab.nextBuf++);
  const balancer = new Balancer(pipes, free);
  const source = new LbInput(input);
  let frame = 0;
  let cut = 0;
  const taken = new Map<LbPipe, number[]>(balancer.pipes.map((pipe) => [pipe, []]));
  for (const step of steps) {
    const pipe = balancer.pipes[step % balancer.pipes.length]!;
    if (step % 3 === 0) {
      // frames of one to three slots, of whose flow the last byte of the source address says which
      for (let n = 1 + (step % 4); n > 0 && (input.tail + 1) % SLOTS !== input.head; n--) {
        const slots = 1 + (frame % 3);
        const { u8 } = input.window;
        u8.set(
          [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, frame % 7, 0x88, 0xb5, frame >> 8, frame & 0xff],
          input.slotOff(input.tail),
        );
        cut++;
        input.setLenAndFlags(input.tail, 20, cut < slots ? NS_MOREFRAG : 0);
        if (cut === slots) {
          cut = 0;
          frame++;
        }
        input.tail = input.next(input.tail);
      }
    } else if (step % 3 === 1) {
      // a reader takes all that is shown, and gives it back
      const { ring } = pipe;
      for (let at = ring.next(ring.tail); at !== ring.head; at = ring.next(at)) {
        const { u8 } = ring.window;
        taken.get(pipe)?.push((u8[ring.slotOff(at) + 14]! << 8) | u8[ring.slotOff(at) + 15]!);
        ring.tail = at;
      }
    }
    balancer.passOn();
    balancer.drainQueues();
    balancer.take(source, 100, 0);
    check(lab, balancer, extra);
  }
  let frames = 0;
  for (const seen of taken.values())
    for (let flow = 0; flow < 7; flow++) {
      const order = seen.filter((number) => number % 7 === flow);
      frames += new Set(order).size;
      assert.deepEqual(
        order,
        [...order].sort((x, y) => x - y),
        'frames of a flow overtook each other',
      );
    }
  lab.close();
  return frames;
}

/** A transmit ring as it begins: all but one slot the user's. */
function txRing(lab: Lab): NetmapRing {
  const ring = lab.ring();
  ring.tail = SLOTS - 1;
  return ring;
}

function check(lab: Lab, balancer: Balancer, extra: number): void {
  const inRings = lab.rings.flatMap((ring) => Array.from({ length: SLOTS }, (_, i) => ring.bufIdx(i)));
  assert.equal(new Set(inRings).size, inRings.length, 'a buffer is in two slots');
  const queued = balancer.pipes.reduce((sum, pipe) => sum + (pipe.queue?.count ?? 0), 0);
  assert.equal(queued + balancer.freeCount, extra, 'extra buffers went astray');
}

test('buffers are neither lost nor doubled, and frames of a pipe keep their order', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(0, 5, 200),
      fc.constantFrom([1], [2], [3, 2], [1, 1, 1]),
      fc.array(fc.nat(100), { maxLength: 120 }),
      (extra, groups, steps) => void run(extra, groups, steps),
    ),
    { numRuns: 60 },
  );
});

test('frames get through all groups, whether there are extra buffers or not', () => {
  const steps = Array.from({ length: 600 }, (_, i) => (i * 7) % 101);
  for (const extra of [0, 200]) assert.ok(run(extra, [2, 2], steps) > 100, `with ${extra} extra buffers`);
});
