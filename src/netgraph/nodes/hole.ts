/** hole (ng_hole(4)): swallows what comes in on any hook, and counts it. */
import { NG_HOOKSIZ } from '../abi.js';
import type { NgBurst } from '../burst.js';
import type { NgHook } from '../hook.js';
import { getString, type NgMessage } from '../message.js';
import type { NgCommand, NgMethods, NgNode, NgResult, NgType } from '../node.js';
import { hookbuf } from '../parse/scalars.js';
import { StatsLayout } from './stats.js';

const NGM_HOLE_COOKIE = 915433206;
const NGM_HOLE_GET_STATS = 1;
const NGM_HOLE_CLR_STATS = 2;
const NGM_HOLE_GETCLR_STATS = 3;

const layout = new StatsLayout(['frames', 'octets']);
const { at } = layout;

const command = (cmd: number, name: string, respType?: NgCommand['respType']): NgCommand => ({
  cookie: NGM_HOLE_COOKIE,
  cmd,
  name,
  mesgType: hookbuf,
  respType,
});

class Hole implements NgMethods {
  readonly #node: NgNode;

  constructor(node: NgNode) {
    this.#node = node;
  }

  newhook(hook: NgHook): undefined {
    hook.data = layout.create();
  }

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie !== NGM_HOLE_COOKIE) return 'EINVAL';
    if (![NGM_HOLE_GET_STATS, NGM_HOLE_CLR_STATS, NGM_HOLE_GETCLR_STATS].includes(msg.cmd)) return 'EINVAL';
    if (msg.data.length !== NG_HOOKSIZ) return 'EINVAL';
    const hook = this.#node.findHook(getString(msg.data, 0, NG_HOOKSIZ));
    if (hook === undefined) return 'ENOENT';
    const stats = hook.data as Float64Array;
    const response = msg.cmd === NGM_HOLE_CLR_STATS ? undefined : layout.pack(stats);
    if (msg.cmd !== NGM_HOLE_GET_STATS) stats.fill(0);
    return response;
  }

  rcvdata(hook: NgHook, burst: NgBurst): void {
    const stats = hook.data as Float64Array;
    stats[at.frames]! += burst.count;
    stats[at.octets]! += burst.bytes();
  }

  disconnect(): void {
    if (this.#node.hooks.length === 0) this.#node.engine.removeNode(this.#node);
  }
}

export const holeType: NgType = {
  name: 'hole',
  cmdlist: [
    command(NGM_HOLE_GET_STATS, 'getstats', layout.type),
    command(NGM_HOLE_CLR_STATS, 'clrstats'),
    command(NGM_HOLE_GETCLR_STATS, 'getclrstats', layout.type),
  ],
  create: (node) => new Hole(node),
};
