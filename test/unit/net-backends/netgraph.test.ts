import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BURST_ENTRIES, Burst } from '../../../src/memory/burst.js';
import { Iovec } from '../../../src/memory/iovec.js';
import type { NetBackend } from '../../../src/net-backends/net-backend.js';
import { openBackend } from '../../../src/net-backends/registry.js';
import { netgraphOf } from '../../../src/netgraph/netgraph.js';
import { NgSocket } from '../../../src/netgraph/nodes/socket.js';
import { type TestRuntime, testRuntime } from '../../support/runtime.js';

const FRAME = 60;
/** word of a burst's entry that says how many bytes were written to its buffer */
const DONE = 3;

/** A backend whose hook leads to a socket of ours, and all that its user takes, by length. */
class Rig {
  readonly runtime: TestRuntime = testRuntime();
  readonly backend: NetBackend;
  readonly lengths: number[] = [];
  readonly #socket: NgSocket;
  readonly #memory = this.runtime.windows.mapAnonymous(BURST_ENTRIES * 2048);
  readonly #burst = new Burst(this.runtime.windows);
  readonly #words = new Uint32Array(this.#burst.window.u8.buffer, this.#burst.off, BURST_ENTRIES * 4);

  constructor(readonly inBursts: boolean) {
    const socket = NgSocket.open(netgraphOf(this.runtime), 'peer');
    assert(typeof socket !== 'string', `${socket}`);
    this.#socket = socket;
    for (let i = 0; i < BURST_ENTRIES; i++) this.#words.set([this.#memory.off + i * 2048, 2048], i * 4);
    this.backend = openBackend(this.runtime, 'netgraph,path=peer:,peerhook=out', () => this.take(), 'vm0');
  }

  take(): void {
    const { backend } = this;
    if (this.inBursts)
      for (let ready = backend.recvReady!(); ready > 0; ready = backend.recvReady!()) {
        const n = backend.recvBurst!(this.#burst, Math.min(ready, BURST_ENTRIES));
        if (n === 0) break;
        for (let i = 0; i < n; i++) this.lengths.push(this.#words[i * 4 + DONE]!);
      }
    const iov = new Iovec(1);
    iov.push(this.#memory.window.index, this.#memory.off, 2048);
    while (backend.peekRecvLen() > 0) this.lengths.push(backend.recv(iov));
  }

  /** One burst of frames of these lengths. */
  send(...lengths: number[]): void {
    const { node } = this.#socket;
    const { buffers } = node.engine;
    node.engine.turn(() => {
      const burst = buffers.takeBurst();
      for (const len of lengths) burst.push(buffers.window.index, buffers.arena(2048), len);
      node.findHook('out')!.send(burst);
      buffers.giveBurst(burst);
    });
  }

  counter(name: string): number {
    const set = this.runtime.counters.directory().find(({ subject }) => subject === 'vm0/netgraph')!;
    return new Float64Array(this.runtime.counters.buffer)[set.first + set.names.indexOf(name)]!;
  }

  [Symbol.dispose](): void {
    this.backend.close();
    netgraphOf(this.runtime).close();
    this.runtime.close();
  }
}

describe('netgraph backend', () => {
  for (const inBursts of [true, false])
    test(`empty and short frames of a graph are dropped and counted, those behind them come (${inBursts ? 'in bursts' : 'one by one'})`, () => {
      using rig = new Rig(inBursts);
      rig.backend.recvEnable();
      rig.send(0, FRAME, 13, 0, FRAME + 1, 0);
      rig.send(0);
      rig.send(FRAME + 2);
      assert.deepEqual(rig.lengths, [FRAME, FRAME + 1, FRAME + 2]);
      assert.equal(rig.counter('rx_drop_runt'), 5);
    });

  test('an empty frame that comes while the guest takes none does not stop those behind it', () => {
    using rig = new Rig(true);
    rig.send(0, FRAME, 0);
    rig.backend.recvEnable();
    assert.deepEqual(rig.lengths, [FRAME]);
    assert.equal(rig.counter('rx_drop_runt'), 2);
    assert.equal(rig.counter('rx_queued'), 1);
  });

  test('an error is not told with the text of one before', () => {
    using rig = new Rig(false);
    const graph = netgraphOf(rig.runtime);
    assert.equal(graph.resolve(undefined, 'nowhere:'), 'ENOENT');
    assert.match(graph.lastErrorText, /nowhere/);
    graph.registerType({ name: 'shy', create: () => ({ newhook: () => 'EINVAL' }) });
    const shy = graph.makeNode('shy');
    assert(typeof shy !== 'string');
    assert.equal(graph.nameNode(shy, 'shy'), undefined);
    assert.throws(
      () => openBackend(rig.runtime, 'netgraph,path=shy:,peerhook=out', () => {}, 'vm1'),
      /hook out\): Invalid argument$/,
    );
  });
});
