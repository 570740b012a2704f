/**
 * netgraph-pipe: how exactly a pipe node keeps to what it is told: by how many microseconds a frame arrives
 * later than its delay, and by how many percent the rate of a flooded pipe is off. The fabric sleeps between frames,
 * as an idle one does.
 */

import { netgraphOf } from '../src/netgraph/netgraph.js';
import { NgSocket } from '../src/netgraph/nodes/socket.js';
import { testRuntime } from '../test/support/runtime.js';
import { type Bench, type BenchOptions, type BenchResult, median, resultOf } from './support/bench.js';

const delaysUs = [1000, 20_000];
const ratesMbps = [1, 10, 100, 1000];
const FRAME_LEN = 1226;
/** of a pipe of 10 Mbit/s and more, and of one of less: 24 and 10 bytes; here none */
const NO_OVERHEAD = 'overhead=-1';
const BURST = 16;
/** frames that wait at least, where the rate is measured: a moment in which the machine does something else is not seen */
const BACKLOG = 8000;

/** A pipe between two hooks of one socket. */
class Rig {
  readonly runtime = testRuntime();
  readonly #graph = netgraphOf(this.runtime);
  readonly #socket: NgSocket;
  readonly #memory = this.runtime.windows.mapAnonymous(FRAME_LEN);
  readonly #burst = this.#graph.buffers.takeBurst();
  frames = 0;
  lastMs = 0;

  constructor() {
    const onData = (_hook: unknown, burst: { count: number }): void => {
      this.frames += burst.count;
      this.lastMs = performance.now();
    };
    const socket = NgSocket.open(this.#graph, 'bench', { onData });
    if (typeof socket === 'string') throw new Error(socket);
    this.#socket = socket;
    const { node } = socket;
    const error = this.#graph.makePeer(node, 'pipe', 'up', 'upper');
    const pipe = this.#graph.resolve(node, '.:up');
    if (error !== undefined || typeof pipe === 'string') throw new Error(`no pipe: ${error}`);
    this.#graph.connect(node, 'down', pipe.node, 'lower');
  }

  configure(config: string): void {
    const error = this.#socket.sendAscii('.:up', 'setcfg', config);
    if (error !== undefined) throw new Error(`${config}: ${error}`);
  }

  send(count: number): void {
    this.#burst.count = 0;
    for (let i = 0; i < count; i++) this.#burst.push(this.#memory.window.index, this.#memory.off, FRAME_LEN);
    this.#socket.node.findHook('up')!.send(this.#burst);
  }

  close(): void {
    this.#graph.close();
    this.#memory.close();
    this.runtime.close();
  }
}

/** Median of how much later than the delay frames arrive, in microseconds. */
function lateness(rig: Rig, delayUs: number, ms: number): number {
  rig.configure(`{ delay=${delayUs} }`);
  const late: number[] = [];
  const end = performance.now() + ms;
  while (performance.now() < end || late.length < 5) {
    const before = rig.frames;
    const sentMs = performance.now();
    rig.send(1);
    while (rig.frames === before) rig.runtime.loop.step(-1);
    late.push((rig.lastMs - sentMs) * 1000 - delayUs);
  }
  return median(late);
}

/** By how many percent the rate of a pipe that always has frames waiting is off. */
function rateError(rig: Rig, mbps: number, ms: number): number {
  rig.configure(`{ delay=-1 bandwidth=${mbps * 1e6} ${NO_OVERHEAD} downstream={ queuelen=10000 } }`);
  // at least 50 frames, however slow
  const count = Math.max(50, Math.round((mbps * 1e6 * ms) / 1000 / 8 / FRAME_LEN));
  const first = rig.frames;
  let sent = 0;
  const startMs = performance.now();
  while (rig.frames - first < count) {
    while (sent < count && sent - (rig.frames - first) < BACKLOG) {
      const n = Math.min(BURST, count - sent);
      rig.send(n);
      sent += n;
    }
    rig.runtime.loop.step(-1);
  }
  const bits = count * FRAME_LEN * 8;
  return Math.abs(bits / ((rig.lastMs - startMs) / 1000) / (mbps * 1e6) - 1) * 100;
}

async function* run({ runs, ms, progress }: BenchOptions): AsyncGenerator<BenchResult> {
  const rig = new Rig();
  const repeat = (measure: () => number): number[] => Array.from({ length: runs }, measure);
  try {
    for (const delayUs of delaysUs) {
      progress(`delay ${delayUs} us`);
      const ours = repeat(() => lateness(rig, delayUs, ms));
      yield resultOf({ name: 'netgraph-pipe', params: { delayUs }, unit: 'us late', ours });
    }
    for (const mbps of ratesMbps) {
      progress(`${mbps} Mbit/s`);
      const ours = repeat(() => rateError(rig, mbps, ms));
      yield resultOf({ name: 'netgraph-pipe', params: { mbps }, unit: '% off', ours });
    }
  } finally {
    rig.close();
  }
}

export const netgraphPipe: Bench = {
  name: 'netgraph-pipe',
  summary: 'how exactly a pipe node keeps its delay and its rate',
  run,
};
