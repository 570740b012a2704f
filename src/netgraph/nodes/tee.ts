/**
 * tee (ng_tee(4)): passes frames between left and right, and a second reference to each out of right2left
 * (what goes from right to left) and left2right. What comes in on those two is passed on as if it
 * came from the other side. Where only one of left and right is there, its frames go out of its tap.
 *
 * Shut down with both sides connected it leaves them connected with each other.
 */
import { NGM_FLOW_COOKIE } from '../abi.js';
import type { NgBurst } from '../burst.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import type { NgMessage } from '../message.js';
import type { NgCommand, NgMethods, NgNode, NgResult, NgType } from '../node.js';
import { struct } from '../parse/composites.js';
import { pack } from '../parse/parse-type.js';
import { StatsLayout } from './stats.js';

const NGM_TEE_COOKIE = 916107047;
const NGM_TEE_GET_STATS = 1;
const NGM_TEE_CLR_STATS = 2;
const NGM_TEE_GETCLR_STATS = 3;

const layout = new StatsLayout(['inOctets', 'inFrames', 'outOctets', 'outFrames']);
const { at } = layout;
const SIDES = ['right', 'left', 'right2left', 'left2right'] as const;
type SideName = (typeof SIDES)[number];
const statsType = struct({
  right: layout.type,
  left: layout.type,
  right2left: layout.type,
  left2right: layout.type,
});

const command = (cmd: number, name: string, respType?: NgCommand['respType']): NgCommand => ({
  cookie: NGM_TEE_COOKIE,
  cmd,
  name,
  respType,
});

interface Side {
  hook: NgHook | undefined;
  /** where frames that come in here go */
  dest: Side | undefined;
  /** where the second reference goes */
  dup: Side | undefined;
  readonly stats: Float64Array;
}

const newSide = (): Side => ({ hook: undefined, dest: undefined, dup: undefined, stats: layout.create() });

class Tee implements NgMethods {
  readonly #node: NgNode;
  readonly #sides: Record<SideName, Side> = {
    right: newSide(),
    left: newSide(),
    right2left: newSide(),
    left2right: newSide(),
  };

  constructor(node: NgNode) {
    this.#node = node;
  }

  newhook(hook: NgHook, name: string): Errno | undefined {
    if (!SIDES.includes(name as SideName))
      return this.#node.engine.fail('EINVAL', `a tee has no hook "${name}": they are ${SIDES.join(', ')}`);
    const side = this.#sides[name as SideName];
    side.hook = hook;
    side.stats.fill(0);
    hook.data = side;
    this.#wire();
    return undefined;
  }

  disconnect(hook: NgHook): void {
    (hook.data as Side).hook = undefined;
    this.#wire();
    if (this.#node.hooks.length === 0) this.#node.engine.removeNode(this.#node);
  }

  closing(): void {
    const { left, right } = this.#sides;
    if (left.hook !== undefined && right.hook !== undefined) this.#node.engine.bypass(left.hook, right.hook);
  }

  rcvmsg(msg: NgMessage, lasthook: NgHook | undefined): NgResult {
    if (msg.typecookie === NGM_FLOW_COOKIE) return this.#passOn(msg, lasthook);
    if (msg.typecookie !== NGM_TEE_COOKIE) return 'EINVAL';
    if (![NGM_TEE_GET_STATS, NGM_TEE_CLR_STATS, NGM_TEE_GETCLR_STATS].includes(msg.cmd)) return 'EINVAL';
    const stats = Object.fromEntries(SIDES.map((name) => [name, layout.toValue(this.#sides[name].stats)]));
    if (msg.cmd !== NGM_TEE_GET_STATS) for (const name of SIDES) this.#sides[name].stats.fill(0);
    return msg.cmd === NGM_TEE_CLR_STATS ? undefined : pack(statsType, stats as never);
  }

  rcvdata(hook: NgHook, burst: NgBurst): void {
    const { stats, dest, dup } = hook.data as Side;
    const octets = burst.bytes();
    stats[at.inOctets]! += octets;
    stats[at.inFrames]! += burst.count;
    if (dup !== undefined) this.#send(dup, burst, octets);
    if (dest !== undefined) this.#send(dest, burst, octets);
  }

  #send({ hook, stats }: Side, burst: NgBurst, octets: number): void {
    stats[at.outOctets]! += octets;
    stats[at.outFrames]! += burst.count;
    hook!.send(burst);
  }

  /** Works out the ways of frames for the hooks that there are. */
  #wire(): void {
    const { left, right, left2right, right2left } = this.#sides;
    const there = (side: Side) => (side.hook === undefined ? undefined : side);
    for (const [from, to, tap] of [
      [left, right, left2right],
      [right, left, right2left],
    ] as const) {
      from.dest = there(to) ?? there(tap);
      from.dup = there(to) === undefined ? undefined : there(tap);
    }
    left2right.dest = there(left);
    right2left.dest = there(right);
  }

  #passOn(msg: NgMessage, lasthook: NgHook | undefined): NgResult {
    const { left, right } = this.#sides;
    const from = lasthook === undefined ? undefined : [left, right].find((side) => side.hook === lasthook);
    return from?.dest?.hook === undefined ? undefined : this.#node.engine.sendOver(from.dest.hook, msg);
  }
}

export const teeType: NgType = {
  name: 'tee',
  cmdlist: [
    command(NGM_TEE_GET_STATS, 'getstats', statsType),
    command(NGM_TEE_CLR_STATS, 'clrstats'),
    command(NGM_TEE_GETCLR_STATS, 'getclrstats', statsType),
  ],
  create: (node) => new Tee(node),
};
