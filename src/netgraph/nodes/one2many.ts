/**
 * one2many (ng_one2many(4)): frames from hook `one` go out of the `manyN` hooks, in turn, all, or the first
 * that is up; frames from any of these go out of `one`.
 *
 * A link is up when its hook is connected and it is enabled, by configuration or, with failAlg 2, by link
 * messages from below. When the last goes down or the first comes up, `one` is told.
 */
import { NGM_FLOW_COOKIE, NGM_LINK_IS_DOWN, NGM_LINK_IS_UP } from '../abi.js';
import type { NgBurst } from '../burst.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import { type NgMessage, newMessage } from '../message.js';
import { type NgCommand, type NgMethods, type NgNode, type NgResult, type NgType, NODE_COUNTERS } from '../node.js';
import { fixedArray, struct } from '../parse/composites.js';
import { type Packed, pack, unpack } from '../parse/parse-type.js';
import { int32, uint8, uint32 } from '../parse/scalars.js';
import { StatsLayout } from './stats.js';

const NGM_ONE2MANY_COOKIE = 1100897444;
const NGM_ONE2MANY_SET_CONFIG = 0;
const NGM_ONE2MANY_GET_CONFIG = 1;
const NGM_ONE2MANY_GET_STATS = 2;
const NGM_ONE2MANY_CLR_STATS = 3;
const NGM_ONE2MANY_GETCLR_STATS = 4;

const NG_ONE2MANY_MAX_LINKS = 64;
/** the number of link `one` */
const NG_ONE2MANY_ONE_LINKNUM = -1;
const NG_ONE2MANY_XMIT_ROUNDROBIN = 1;
const NG_ONE2MANY_XMIT_ALL = 2;
const NG_ONE2MANY_XMIT_FAILOVER = 3;
const NG_ONE2MANY_FAIL_MANUAL = 1;
const NG_ONE2MANY_FAIL_NOTIFY = 2;

const configType = struct({
  xmitAlg: uint32,
  failAlg: uint32,
  enabledLinks: fixedArray(uint8, NG_ONE2MANY_MAX_LINKS),
});
type Config = Packed<typeof configType>;

const layout = new StatsLayout(['recvOctets', 'recvPackets', 'xmitOctets', 'xmitPackets', 'memoryFailures']);
const { at } = layout;

const DROP_ALL_DOWN = NODE_COUNTERS;

const command = (
  cmd: number,
  name: string,
  mesgType?: NgCommand['mesgType'],
  respType?: NgCommand['respType'],
): NgCommand => ({ cookie: NGM_ONE2MANY_COOKIE, cmd, name, mesgType, respType });

interface Link {
  readonly number: number;
  hook: NgHook | undefined;
  readonly stats: Float64Array;
  /** frames of the burst in hand that go out here */
  readonly out: NgBurst;
}

class One2many implements NgMethods {
  readonly #node: NgNode;
  #config: Config = {
    xmitAlg: NG_ONE2MANY_XMIT_ROUNDROBIN,
    failAlg: NG_ONE2MANY_FAIL_MANUAL,
    enabledLinks: new Array(NG_ONE2MANY_MAX_LINKS).fill(0),
  };
  readonly #links = new Map<number, Link>();
  #active: Link[] = [];
  #next = 0;

  constructor(node: NgNode) {
    this.#node = node;
  }

  newhook(hook: NgHook, name: string): Errno | undefined {
    const digits = /^many(0|[1-9]\d*)$/.exec(name)?.[1];
    const number = name === 'one' ? NG_ONE2MANY_ONE_LINKNUM : Number(digits ?? NG_ONE2MANY_MAX_LINKS);
    if (number >= NG_ONE2MANY_MAX_LINKS)
      return this.#node.engine.fail(
        'EINVAL',
        `a one2many has no hook "${name}": they are one, and many0 to many${NG_ONE2MANY_MAX_LINKS - 1}`,
      );
    const link = this.#link(number);
    if (link.hook !== undefined) return 'EISCONN';
    link.hook = hook;
    link.stats.fill(0);
    hook.data = link;
    if (number !== NG_ONE2MANY_ONE_LINKNUM) {
      this.#config.enabledLinks[number] = 1;
      this.#updateActive();
    }
    return undefined;
  }

  disconnect(hook: NgHook): void {
    const link = hook.data as Link;
    link.hook = undefined;
    if (link.number !== NG_ONE2MANY_ONE_LINKNUM) {
      this.#config.enabledLinks[link.number] = 0;
      this.#updateActive();
    }
    if (this.#node.hooks.length === 0) this.#node.engine.removeNode(this.#node);
  }

  close(): void {
    for (const { out } of this.#links.values()) this.#node.engine.buffers.giveBurst(out);
    this.#links.clear();
  }

  rcvmsg(msg: NgMessage, lasthook: NgHook | undefined): NgResult {
    if (msg.typecookie === NGM_FLOW_COOKIE) return this.#linkMessage(msg, lasthook);
    if (msg.typecookie !== NGM_ONE2MANY_COOKIE) return 'EINVAL';
    switch (msg.cmd) {
      case NGM_ONE2MANY_SET_CONFIG:
        return this.#setConfig(msg);
      case NGM_ONE2MANY_GET_CONFIG:
        return pack(configType, this.#config);
      case NGM_ONE2MANY_GET_STATS:
      case NGM_ONE2MANY_CLR_STATS:
      case NGM_ONE2MANY_GETCLR_STATS:
        return this.#stats(msg);
      default:
        return 'EINVAL';
    }
  }

  rcvdata(hook: NgHook, burst: NgBurst): void {
    const source = hook.data as Link;
    const octets = burst.bytes();
    source.stats[at.recvOctets]! += octets;
    source.stats[at.recvPackets]! += burst.count;
    if (source.number !== NG_ONE2MANY_ONE_LINKNUM) this.#send(this.#link(NG_ONE2MANY_ONE_LINKNUM), burst, octets);
    else if (this.#active.length === 0) this.#node.values[DROP_ALL_DOWN]! += burst.count;
    else this.#distribute(burst, octets);
  }

  #distribute(burst: NgBurst, octets: number): void {
    const active = this.#active;
    if (this.#config.xmitAlg === NG_ONE2MANY_XMIT_FAILOVER || active.length === 1)
      this.#send(active[0]!, burst, octets);
    else if (this.#config.xmitAlg === NG_ONE2MANY_XMIT_ALL)
      for (let k = 0; k < active.length; k++) this.#send(active[k]!, burst, octets);
    else this.#roundRobin(burst);
  }

  #roundRobin(burst: NgBurst): void {
    const active = this.#active;
    let next = this.#next;
    for (let i = 0; i < burst.count; i++) {
      active[next]!.out.pushFrom(burst, i);
      next = next + 1 === active.length ? 0 : next + 1;
    }
    this.#next = next;
    for (let k = 0; k < active.length; k++) {
      const link = active[k]!;
      if (link.out.count > 0) this.#send(link, link.out, link.out.bytes());
      link.out.count = 0;
    }
  }

  #send(link: Link, burst: NgBurst, octets: number): void {
    if (link.hook === undefined) {
      this.#node.values[DROP_ALL_DOWN]! += burst.count;
      return;
    }
    link.stats[at.xmitOctets]! += octets;
    link.stats[at.xmitPackets]! += burst.count;
    link.hook.send(burst);
  }

  #link(number: number): Link {
    let link = this.#links.get(number);
    if (link === undefined) {
      link = { number, hook: undefined, stats: layout.create(), out: this.#node.engine.buffers.takeBurst() };
      this.#links.set(number, link);
    }
    return link;
  }

  #setConfig(msg: NgMessage): NgResult {
    const config = unpack(configType, msg.data);
    if (config === undefined) return 'EINVAL';
    const { engine } = this.#node;
    if (config.xmitAlg < NG_ONE2MANY_XMIT_ROUNDROBIN || config.xmitAlg > NG_ONE2MANY_XMIT_FAILOVER)
      return engine.fail('EINVAL', `xmitAlg=${config.xmitAlg}: 1 is round robin, 2 all, 3 failover`);
    if (config.failAlg !== NG_ONE2MANY_FAIL_MANUAL && config.failAlg !== NG_ONE2MANY_FAIL_NOTIFY)
      return engine.fail('EINVAL', `failAlg=${config.failAlg}: 1 is manual, 2 by link messages`);
    config.enabledLinks = config.enabledLinks.map((enabled) => (enabled === 0 ? 0 : 1));
    this.#config = config;
    this.#updateActive();
    return undefined;
  }

  #stats(msg: NgMessage): NgResult {
    const number = unpack(int32, msg.data);
    if (number === undefined || number < NG_ONE2MANY_ONE_LINKNUM || number >= NG_ONE2MANY_MAX_LINKS) return 'EINVAL';
    const { stats } = this.#link(number);
    const response = msg.cmd === NGM_ONE2MANY_CLR_STATS ? undefined : layout.pack(stats);
    if (msg.cmd !== NGM_ONE2MANY_GET_STATS) stats.fill(0);
    return response;
  }

  #linkMessage(msg: NgMessage, lasthook: NgHook | undefined): NgResult {
    const number = (lasthook?.data as Link | undefined)?.number ?? NG_ONE2MANY_ONE_LINKNUM;
    if (this.#config.failAlg !== NG_ONE2MANY_FAIL_NOTIFY || number === NG_ONE2MANY_ONE_LINKNUM) return undefined;
    if (msg.cmd !== NGM_LINK_IS_UP && msg.cmd !== NGM_LINK_IS_DOWN) return undefined;
    this.#config.enabledLinks[number] = msg.cmd === NGM_LINK_IS_UP ? 1 : 0;
    this.#updateActive();
    return undefined;
  }

  #updateActive(): void {
    const before = this.#active.length;
    this.#active = [...this.#links.values()]
      .filter(({ number, hook }) => hook !== undefined && this.#config.enabledLinks[number] === 1)
      .sort((a, b) => a.number - b.number);
    const { length } = this.#active;
    if (length > 0) this.#next %= length;
    if ((before === 0) !== (length === 0)) this.#notify(length === 0 ? NGM_LINK_IS_DOWN : NGM_LINK_IS_UP);
  }

  #notify(cmd: number): void {
    const one = this.#links.get(NG_ONE2MANY_ONE_LINKNUM)?.hook;
    if (one !== undefined) this.#node.engine.sendOver(one, newMessage(NGM_FLOW_COOKIE, cmd));
  }
}

export const one2manyType: NgType = {
  name: 'one2many',
  cmdlist: [
    command(NGM_ONE2MANY_SET_CONFIG, 'setconfig', configType),
    command(NGM_ONE2MANY_GET_CONFIG, 'getconfig', undefined, configType),
    command(NGM_ONE2MANY_GET_STATS, 'getstats', int32, layout.type),
    command(NGM_ONE2MANY_CLR_STATS, 'clrstats', int32),
    command(NGM_ONE2MANY_GETCLR_STATS, 'getclrstats', int32, layout.type),
  ],
  counters: ['drop_all_down'],
  create: (node) => new One2many(node),
};
