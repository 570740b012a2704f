import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  changeDirection,
  type DirectionConfig,
  type DirectionRequest,
  newDirectionConfig,
} from '../../../src/netgraph/pipe/config.js';
import { Shaper } from '../../../src/netgraph/pipe/shaper.js';

interface Left {
  off: number;
  len: number;
  atUs: number;
}

/** A shaper whose frames are named by their offset, and what came of each. */
class Rig {
  readonly forwarded: Left[] = [];
  readonly dropped: number[] = [];
  copies = 0;
  nowUs = 1000;
  readonly shaper: Shaper;

  constructor(config: Partial<DirectionConfig> = {}, random?: () => number) {
    this.shaper = new Shaper({
      config: { ...newDirectionConfig(), ...config },
      output: {
        forward: (off, len) => void this.forwarded.push({ off, len, atUs: this.nowUs }),
        drop: (off) => void this.dropped.push(off),
        copy: (off) => {
          this.copies++;
          return off;
        },
      },
      ...(random === undefined ? {} : { random }),
    });
  }

  send(off: number, len: number, hash = 0): void {
    this.shaper.enqueue(this.nowUs, off, len, hash);
    this.shaper.advance(this.nowUs);
  }

  /** Runs the clock from one time of interest to the next. */
  runUntil(us: number): void {
    while (this.shaper.nextUs <= us) {
      this.nowUs = Math.max(this.nowUs, this.shaper.nextUs);
      this.shaper.advance(this.nowUs);
    }
    this.nowUs = us;
  }

  drain(): void {
    while (Number.isFinite(this.shaper.nextUs)) this.runUntil(this.shaper.nextUs);
  }
}

const nothing: DirectionRequest = {
  bandwidth: 0,
  ber: 0,
  queueLimit: 0,
  delayLimit: 0,
  duplicate: 0,
  fifo: 0,
  drr: 0,
  wfq: 0,
  dropTail: 0,
  dropHead: 0,
};

describe('rate and delay of a pipe', () => {
  test('a frame is through when its bits and the overhead have been sent, and arrives the delay later', () => {
    const rig = new Rig({ bandwidth: 8_000_000 });
    rig.shaper.delayUs = 500;
    rig.shaper.overhead = 24;
    rig.send(1, 976);
    rig.send(2, 476);
    rig.drain();
    assert.deepEqual(rig.forwarded, [
      { off: 1, len: 976, atUs: 1000 + 1000 + 500 },
      { off: 2, len: 476, atUs: 1000 + 1000 + 500 + 500 },
    ]);
  });

  test('times follow from the arrivals alone: a caller who looks late neither slows the link nor lets it burst', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ gap: fc.integer({ min: 0, max: 400 }), len: fc.integer({ min: 14, max: 1514 }) }), {
          maxLength: 40,
        }),
        fc.integer({ min: 0, max: 2000 }),
        (arrivals, delayUs) => {
          const rig = new Rig({ bandwidth: 50_000_000, queueLimit: 1000 });
          rig.shaper.delayUs = delayUs;
          const expected: number[] = [];
          let linkFree = 0;
          let now = rig.nowUs;
          arrivals.forEach(({ gap, len }, i) => {
            now += gap;
            linkFree = Math.max(linkFree, now) + (len * 8e6) / 50_000_000;
            expected.push(linkFree + delayUs);
            rig.runUntil(now);
            rig.send(i, len);
          });
          rig.drain();
          rig.forwarded.forEach(({ off, atUs }, i) => {
            assert.equal(off, i);
            assert.ok(Math.abs(atUs - expected[i]!) < 0.01, `${atUs} ${expected[i]}`);
          });
          assert.equal(rig.forwarded.length, arrivals.length);
        },
      ),
    );
  });

  test('without bandwidth only the delay counts', () => {
    const rig = new Rig();
    rig.shaper.delayUs = 30_000;
    for (let i = 0; i < 3; i++) rig.send(i, 1514);
    rig.drain();
    assert.deepEqual(
      rig.forwarded.map((f) => f.atUs),
      [31_000, 31_000, 31_000],
    );
  });

  test('a delay made shorter does not let frames overtake', () => {
    const rig = new Rig();
    rig.shaper.delayUs = 1000;
    rig.send(1, 60);
    rig.shaper.delayUs = 10;
    rig.send(2, 60);
    rig.drain();
    assert.deepEqual(
      rig.forwarded.map((f) => f.off),
      [1, 2],
    );
  });
});

describe('queues of a pipe', () => {
  test('a full queue drops its last frame, or its first, and counts it', () => {
    for (const [dropHead, lost] of [
      [false, 6],
      [true, 1],
    ] as const) {
      const rig = new Rig({ bandwidth: 1000, queueLimit: 5, dropHead });
      for (let i = 0; i < 7; i++) rig.send(i, 100);
      assert.deepEqual(rig.dropped, [lost]);
      assert.equal(rig.shaper.stats.queueDropFrames, 1);
      assert.equal(rig.shaper.stats.queueDropOctets, 100);
      assert.equal(rig.shaper.queuedFrames, 5);
      assert.equal(rig.shaper.queuedOctets, 500);
    }
  });

  test('with wfq and drr it is the longest queue that loses a frame', () => {
    for (const config of [{ wfq: true }, { drr: 2048 }]) {
      const rig = new Rig({ bandwidth: 1000, queueLimit: 5, fifo: false, ...config });
      for (let i = 0; i < 5; i++) rig.send(i, 100, 7);
      rig.send(100, 100, 8);
      rig.send(101, 100, 8);
      assert.deepEqual(rig.dropped, [4]);
      assert.equal(rig.shaper.queues, 2);
    }
  });

  test('wfq and drr share the link between a flow that floods and one that does not; fifo does not', () => {
    const order = (config: Partial<DirectionConfig>): number[] => {
      const rig = new Rig({ bandwidth: 1_000_000, queueLimit: 200, ...config });
      for (let i = 0; i < 60; i++) rig.send(i, 1000, 1);
      for (let i = 100; i < 105; i++) rig.send(i, 1000, 2);
      rig.drain();
      return rig.forwarded.map((f) => f.off);
    };
    const lastOfMild = (offs: number[]): number => offs.indexOf(104);
    assert.equal(lastOfMild(order({})), 64);
    assert.ok(lastOfMild(order({ fifo: false, wfq: true })) < 15);
    assert.ok(lastOfMild(order({ fifo: false, drr: 1000 })) < 15);
  });

  test('drr gives flows equal bytes, whatever the size of their frames', () => {
    const rig = new Rig({ bandwidth: 1_000_000, queueLimit: 5000, fifo: false, drr: 500 });
    for (let i = 0; i < 100; i++) rig.send(i, 1500, 1);
    for (let i = 1000; i < 2500; i++) rig.send(i, 100, 2);
    rig.runUntil(rig.nowUs + 1_000_000);
    const bytes = [0, 0];
    for (const { off, len } of rig.forwarded) bytes[off < 1000 ? 0 : 1]! += len;
    assert.ok(Math.abs(bytes[0]! - bytes[1]!) <= 3000, bytes.join(' '));
  });

  test('no more than delaylen frames are under way: the rest is lost, and counted', () => {
    const rig = new Rig({ delayLimit: 5 });
    rig.shaper.delayUs = 1000;
    for (let i = 0; i < 8; i++) rig.send(i, 60);
    assert.deepEqual(rig.dropped, [5, 6, 7]);
    assert.equal(rig.shaper.stats.delayDropFrames, 3);
    assert.equal(rig.shaper.delayedFrames, 5);
  });

  test('every frame comes out or is dropped, once, and a flow keeps its order, whatever the configuration', () => {
    const config = fc.record({
      bandwidth: fc.constantFrom(0, 100, 1e6, 1e9),
      queueLimit: fc.integer({ min: 0, max: 12 }),
      delayLimit: fc.constantFrom(0, 5, 20),
      discipline: fc.constantFrom('fifo', 'wfq', 'drr'),
      dropHead: fc.boolean(),
      ber: fc.constantFrom(0, 1, 5000),
    });
    const frames = fc.array(
      fc.record({
        gap: fc.integer({ min: 0, max: 3000 }),
        len: fc.integer({ min: 14, max: 2000 }),
        flow: fc.integer({ min: 0, max: 3 }),
      }),
      { maxLength: 80 },
    );
    fc.assert(
      fc.property(config, frames, ({ discipline, ...rest }, arrivals) => {
        const fifo = discipline === 'fifo';
        const rig = new Rig({ ...rest, fifo, wfq: discipline === 'wfq', drr: discipline === 'drr' ? 700 : 0 });
        rig.shaper.delayUs = 250;
        arrivals.forEach(({ gap, len, flow }, i) => {
          rig.runUntil(rig.nowUs + gap);
          rig.send(i, len, flow);
        });
        rig.drain();
        const out = [...rig.forwarded.map((f) => f.off), ...rig.dropped].sort((a, b) => a - b);
        assert.deepEqual(
          out,
          arrivals.map((_, i) => i),
        );
        for (let flow = 0; flow < 4; flow++) {
          const offs = rig.forwarded.map((f) => f.off).filter((off) => arrivals[off]!.flow === flow);
          assert.deepEqual(
            offs,
            [...offs].sort((a, b) => a - b),
          );
        }
        const { queuedFrames, queuedOctets, delayedFrames, delayedOctets, queues, stats } = rig.shaper;
        assert.deepEqual([queuedFrames, queuedOctets, delayedFrames, delayedOctets, queues], [0, 0, 0, 0, 0]);
        assert.equal(stats.queueDropFrames + stats.delayDropFrames, rig.dropped.length);
      }),
    );
  });

  test('clear() gives every frame back and forgets all', () => {
    const rig = new Rig({ bandwidth: 1000, fifo: false, wfq: true });
    for (let i = 0; i < 10; i++) rig.send(i, 100, i % 3);
    rig.shaper.clear();
    assert.equal(rig.dropped.length, 10);
    assert.equal(rig.shaper.nextUs, Number.POSITIVE_INFINITY);
    assert.equal(rig.shaper.queues, 0);
  });
});

describe('loss and duplication of a pipe', () => {
  test('a frame survives with the chance that none of its bits is hit', () => {
    const n = 20_000;
    let seed = 1;
    const random = (): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed / 2 ** 32;
    };
    const rig = new Rig({ ber: 100_000 }, random);
    rig.shaper.overhead = 24;
    for (let i = 0; i < n; i++) rig.send(i, 1226);
    const expected = n * (1 - (1 - 1e-5) ** 10_000);
    assert.ok(Math.abs(rig.shaper.stats.delayDropFrames - expected) < 0.05 * expected);
  });

  test('BER 1 loses everything', () => {
    const rig = new Rig({ ber: 1 });
    for (let i = 0; i < 10; i++) rig.send(i, 60);
    assert.equal(rig.dropped.length, 10);
  });

  test('a duplicate goes before its original, which may be doubled again', () => {
    const dice = [0.0, 0.0, 0.9];
    const rig = new Rig({ duplicate: 50 }, () => dice.shift() ?? 0.9);
    rig.send(1, 60);
    rig.send(2, 60);
    assert.deepEqual(
      rig.forwarded.map((f) => f.off),
      [1, 1, 1, 2],
    );
    assert.equal(rig.copies, 2);
  });
});

describe('setcfg of a pipe', () => {
  const change = (request: Partial<DirectionRequest>, from: Partial<DirectionConfig> = {}): DirectionConfig => {
    const config = { ...newDirectionConfig(), ...from };
    changeDirection(config, { ...nothing, ...request });
    return config;
  };

  test('begins with fifo, 50 frames, tail drop and no limits', () => {
    assert.deepEqual(newDirectionConfig(), change({}));
    assert.equal(newDirectionConfig().queueLimit, 50);
  });

  test('-1 means zero, in fields of 32 and of 64 bits', () => {
    for (const value of [-1, 0xffffffff, 2 ** 64])
      assert.deepEqual(
        change(
          { bandwidth: value, ber: value, queueLimit: value, delayLimit: value, duplicate: value },
          { bandwidth: 1e6, ber: 5, delayLimit: 7, duplicate: 3, wfq: true, fifo: false },
        ),
        { ...newDirectionConfig(), queueLimit: 0 },
      );
  });

  test('zero and what is out of range change nothing', () => {
    const from = { bandwidth: 1e6, ber: 5, queueLimit: 9, delayLimit: 7, duplicate: 3 };
    for (const request of [{}, { bandwidth: 99, ber: 2e12, queueLimit: 4, delayLimit: 4, duplicate: 51 }])
      assert.deepEqual(change(request, from), { ...newDirectionConfig(), ...from });
  });

  test('one discipline at a time; a quantum below 32 bytes is the default one', () => {
    assert.deepEqual(change({ wfq: 1 }), { ...newDirectionConfig(), fifo: false, wfq: true });
    assert.deepEqual(change({ drr: 1 }, { wfq: true }), { ...newDirectionConfig(), fifo: false, drr: 2048 });
    assert.equal(change({ drr: 1500 }).drr, 1500);
    assert.deepEqual(change({ fifo: 1 }, { wfq: true, fifo: false }), newDirectionConfig());
    assert.equal(change({ dropHead: 1 }).dropHead, true);
    assert.equal(change({ dropTail: 1 }, { dropHead: true }).dropHead, false);
  });
});
