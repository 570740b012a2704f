/**
 * A node type of one's own: `police` lets so many frames a second through from its hook `in` to its hook `out`,
 * and everything back. Its one command, `set`, takes `{ rate=N }`; `get` tells it, and what was dropped.
 *
 *   netbe run --netgraph graph.ngctl --backend ./own-node-type.js …
 *   msg police: set { rate=1000 }
 */
import {
  NG_BURST_FRAMES,
  type NgBurst,
  type NgHook,
  type NgMessage,
  type NgMethods,
  type NgNode,
  type NgResult,
  type NgType,
  pack,
  struct,
  uint32,
  unpack,
} from 'netbe';

const COOKIE = 20261122;
const SET = 1;
const GET = 2;

const settings = struct({ rate: uint32 });
const report = struct({ rate: uint32, dropped: uint32 });

class Police implements NgMethods {
  #rate = 1000;
  /** frames that may pass at once: a tenth of a second's */
  #credit = 100;
  #lastMs = performance.now();
  #dropped = 0;
  readonly #allowed: NgBurst;

  constructor(readonly node: NgNode) {
    // bursts are made when a node is, never while frames pass
    this.#allowed = node.engine.buffers.takeBurst();
  }

  newhook(_hook: NgHook, name: string): 'EINVAL' | undefined {
    return name === 'in' || name === 'out' ? undefined : 'EINVAL';
  }

  rcvdata(from: NgHook, burst: NgBurst): void {
    const to = this.node.findHook(from.name === 'in' ? 'out' : 'in');
    if (to === undefined) return;
    if (from.name === 'out') {
      to.send(burst);
      return;
    }
    this.#earn();
    const count = Math.min(burst.count, Math.floor(this.#credit), NG_BURST_FRAMES);
    this.#credit -= count;
    this.#dropped += burst.count - count;
    for (let i = 0; i < count; i++) this.#allowed.pushFrom(burst, i);
    to.send(this.#allowed);
    this.#allowed.count = 0;
  }

  #earn(): void {
    const nowMs = performance.now();
    this.#credit = Math.min(this.#rate / 10, this.#credit + ((nowMs - this.#lastMs) * this.#rate) / 1000);
    this.#lastMs = nowMs;
  }

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie !== COOKIE) return 'EINVAL';
    if (msg.cmd === GET) return pack(report, { rate: this.#rate, dropped: this.#dropped });
    const args = msg.cmd === SET ? unpack(settings, msg.data) : undefined;
    if (args === undefined || args.rate === 0) return 'EINVAL';
    this.#rate = args.rate;
    this.#credit = args.rate / 10;
    return undefined;
  }

  disconnect(): void {
    if (this.node.hooks.length === 0) this.node.engine.removeNode(this.node);
  }

  close(): void {
    this.node.engine.buffers.giveBurst(this.#allowed);
  }
}

export const nodeType: NgType = {
  name: 'police',
  cmdlist: [
    { cookie: COOKIE, cmd: SET, name: 'set', mesgType: settings },
    { cookie: COOKIE, cmd: GET, name: 'get', respType: report },
  ],
  create: (node) => new Police(node),
};
