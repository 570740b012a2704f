/** A graph of its own for a test, sockets that remember, and frames in memory. */
import assert from 'node:assert/strict';
import { NGM_CONNECT, NGM_GENERIC_COOKIE, NGM_MKPEER } from '../../src/netgraph/abi.js';
import type { NgBurst } from '../../src/netgraph/burst.js';
import { Netgraph } from '../../src/netgraph/engine.js';
import type { Errno } from '../../src/netgraph/errno.js';
import { connectType, mkpeerType } from '../../src/netgraph/generic.js';
import { type NgctlResult, NgctlSession, runNgctl } from '../../src/netgraph/ngctl/session.js';
import { NgSocket } from '../../src/netgraph/nodes/socket.js';
import { pack } from '../../src/netgraph/parse/parse-type.js';
import { type TestRuntime, testRuntime } from './runtime.js';

export interface SeenFrame {
  hook: string;
  bytes: Buffer;
}

/** A socket node that keeps every frame it gets. */
export class Probe {
  readonly seen: SeenFrame[] = [];
  readonly socket: NgSocket;
  readonly #lab: GraphLab;

  constructor(lab: GraphLab, name: string) {
    this.#lab = lab;
    const socket = NgSocket.open(lab.graph, name, {
      onData: (hook, burst) => {
        for (let i = 0; i < burst.count; i++) this.seen.push({ hook: hook.name, bytes: lab.read(burst, i) });
      },
    });
    assert(typeof socket !== 'string', `${socket}`);
    this.socket = socket;
  }

  /** NGM_MKPEER to the node at `path`. */
  mkpeer(path: string, type: string, ourhook: string, peerhook: string): Errno | undefined {
    return this.socket.send(path, NGM_GENERIC_COOKIE, NGM_MKPEER, pack(mkpeerType, { type, ourhook, peerhook }));
  }

  /** NGM_CONNECT to the node at `at`; `path` is as seen from there. */
  connect(at: string, path: string, ourhook: string, peerhook: string): Errno | undefined {
    return this.socket.send(at, NGM_GENERIC_COOKIE, NGM_CONNECT, pack(connectType, { path, ourhook, peerhook }));
  }

  /** Sends frames out of a hook, as one burst. */
  send(hookName: string, ...frames: Uint8Array[]): void {
    const hook = this.socket.node.findHook(hookName);
    assert(hook, `no hook ${hookName}`);
    const burst = this.#lab.burst(frames);
    hook.send(burst);
    this.#lab.graph.buffers.giveBurst(burst);
  }

  /** The frames that came since the last call, as hook and hexadecimal. */
  take(): string[] {
    return this.seen.splice(0).map(({ hook, bytes }) => `${hook} ${bytes.toString('hex')}`);
  }

  /** How many came since the last call, by hook. */
  counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { hook } of this.seen.splice(0)) counts[hook] = (counts[hook] ?? 0) + 1;
    return counts;
  }
}

export class GraphLab {
  readonly runtime: TestRuntime;
  readonly graph: Netgraph;
  /** what graph.clock says */
  nowSec = 1000;
  readonly #memory;
  #used = 0;
  #session: NgctlSession | undefined;

  /** `apart`: frames lie in another window than all that the graph has. */
  constructor({ apart = false } = {}) {
    this.runtime = testRuntime(apart ? { windowBytes: 2 ** 27 } : {});
    this.graph = new Netgraph(this.runtime, { clock: () => this.nowSec });
    const { windows } = this.runtime;
    this.#memory = windows.mapAnonymous(apart ? 2 ** 27 - 2 ** 18 : 2 ** 20);
  }

  probe(name: string): Probe {
    return new Probe(this, name);
  }

  /** Runs a command of ngctl; throws if its status is not 0. */
  ngctl(line: string): string {
    const { output, error, status } = this.run(line);
    assert.equal(status, 0, `${line}: ${error}`);
    return output;
  }

  run(line: string): NgctlResult {
    if (this.#session === undefined) {
      const session = NgctlSession.open(this.graph, 'ngctl');
      assert(typeof session !== 'string', `${session}`);
      this.#session = session;
    }
    return runNgctl(this.#session, line);
  }

  /** The arguments of the reply to a message, as ASCII. */
  ask(path: string, command: string): string {
    const output = this.ngctl(`msg ${path} ${command}`);
    return /^Args:\t(.*)$/m.exec(output)?.[1] ?? output;
  }

  /** The errno text of a command that fails. */
  fails(line: string): string {
    const { error, status } = this.run(line);
    assert.equal(status, 71, `${line}: status ${status}`);
    return error.split('\n', 1)[0]?.replace(/^ngctl: (send msg: )?/, '') ?? '';
  }

  /** A burst of frames that lie in memory of the lab's own. */
  burst(frames: readonly Uint8Array[]): NgBurst {
    const burst = this.graph.buffers.takeBurst();
    const { window, off } = this.#memory;
    for (const frame of frames) {
      if (this.#used + frame.length > 2 ** 20) this.#used = 0;
      window.u8.set(frame, off + this.#used);
      burst.push(window.index, off + this.#used, frame.length);
      this.#used += frame.length;
    }
    return burst;
  }

  read(burst: NgBurst, i: number): Buffer {
    const { u8 } = this.runtime.windows.windows[burst.win[i]!]!;
    return Buffer.from(u8.slice(burst.off[i]!, burst.off[i]! + burst.len[i]!));
  }

  /** A counter of a node. */
  counter(path: string, name: string): number {
    const found = this.graph.resolve(undefined, path);
    assert(typeof found !== 'string', `${path}: ${found}`);
    const { node } = found;
    const set = this.runtime.counters.directory().find((d) => d.subject === `netgraph:[${node.id.toString(16)}]`);
    return node.values[set?.names.indexOf(name) ?? -1] ?? Number.NaN;
  }

  close(): void {
    this.graph.close();
    this.#memory.close();
    this.runtime.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
