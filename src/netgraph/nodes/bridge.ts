/**
 * bridge (ng_bridge(4)): a learning switch over hooks `linkN` and `uplinkN`.
 *
 * Known unicast goes to its host's link, everything else to all others. Uplinks learn nobody and get all
 * unknown unicast; where an uplink was the first hook, links get none. A host that shows up on another
 * link within minStableAge seconds means a loop: the link it came in on is muted for loopTimeout seconds.
 * Goes with its last hook, unless persistent.
 */
import type { Mapping, Window } from '../../memory/window.js';
import { ETH_HDR_LEN } from '../../wire/ethernet.js';
import { NG_BURST_FRAMES, type NgBurst } from '../burst.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import type { NgMessage } from '../message.js';
import { type NgMethods, type NgNode, type NgResult, type NgType, NODE_COUNTERS } from '../node.js';
import { pack, unpack } from '../parse/parse-type.js';
import { int32 } from '../parse/scalars.js';
import {
  bridgeCommands,
  configType,
  hostAryType,
  moveHostType,
  NGM_BRIDGE_CLR_STATS,
  NGM_BRIDGE_COOKIE,
  NGM_BRIDGE_GET_CONFIG,
  NGM_BRIDGE_GET_STATS,
  NGM_BRIDGE_GET_TABLE,
  NGM_BRIDGE_GETCLR_STATS,
  NGM_BRIDGE_MOVE_HOST,
  NGM_BRIDGE_RESET,
  NGM_BRIDGE_SET_CONFIG,
  NGM_BRIDGE_SET_PERSISTENT,
  statsLayout,
} from './bridge-messages.js';
import { addressWords, BridgeTable } from './bridge-table.js';

const { at } = statsLayout;
const EVICTED = NODE_COUNTERS;
/** seconds an age or a staleness says at most: 16 bits */
const MAX_AGE = 0xffff;

/** where a frame goes, when it is not the index of a link */
/** the burst's frames go several ways */
const NONE = 0;
const DROP = -1;
/** unknown unicast */
const FLOOD = -2;
const FLOOD_MULTICAST = -3;
const FLOOD_BROADCAST = -4;

interface Link {
  readonly hook: NgHook;
  readonly index: number;
  readonly learnMac: boolean;
  readonly sendUnknown: boolean;
  /** the second in which it hears again */
  mutedUntil: number;
  readonly stats: Float64Array;
  /** frames of the burst in hand that go out here, and their bytes */
  readonly out: NgBurst;
  outOctets: number;
}

class Bridge implements NgMethods {
  readonly #node: NgNode;
  readonly #table: BridgeTable;
  #config = { debugLevel: 1, loopTimeout: 60, maxStaleness: 900, minStableAge: 1 };
  #persistent = false;
  /** links get unknown unicast too: the first hook was no uplink */
  #sendUnknown = true;
  /** by index, from 1 on; the index of a link that has gone is used again */
  readonly #links: (Link | undefined)[] = [undefined];
  /** the link that all frames of the burst in hand went to so far, or NONE */
  #only = NONE;
  #linkCount = 0;
  /** links of the frames that the kernel has looked up, and where they lie */
  readonly #looked: Uint32Array;
  readonly #lookedMapping: Mapping;
  readonly #windows: readonly Window[];

  constructor(node: NgNode) {
    this.#node = node;
    const pool = node.engine.runtime.windows;
    this.#table = new BridgeTable(pool);
    this.#lookedMapping = pool.mapAnonymous(4 * NG_BURST_FRAMES, 'netgraph bridge');
    const { window, off } = this.#lookedMapping;
    this.#looked = new Uint32Array(window.u8.buffer, off, NG_BURST_FRAMES);
    this.#windows = node.engine.runtime.windows.windows;
  }

  // ---- hooks ----

  newhook(hook: NgHook, name: string): Errno | undefined {
    const match = /^(up)?link(0|[1-9]\d{0,9})$/.exec(name);
    const isUplink = match?.[1] !== undefined;
    const { engine } = this.#node;
    if (match === null || Number(match[2]) > 0xffffffff || (isUplink && match[2] === '0'))
      return engine.fail(
        'EINVAL',
        `a bridge has no hook "${name}": they are link0, link1, ... and uplink1, uplink2, ...`,
      );
    if (hook.peer?.node === this.#node) return engine.fail('ELOOP', 'a bridge cannot be connected to itself');
    if (isUplink && this.#linkCount === 0) this.#sendUnknown = false;
    const free = this.#links.indexOf(undefined, 1);
    const index = free < 0 ? this.#links.length : free;
    const link: Link = {
      hook,
      index,
      learnMac: !isUplink,
      sendUnknown: isUplink || this.#sendUnknown,
      mutedUntil: 0,
      stats: statsLayout.create(),
      out: engine.buffers.takeBurst(),
      outOctets: 0,
    };
    hook.data = link;
    this.#links[index] = link;
    this.#linkCount++;
    return undefined;
  }

  disconnect(hook: NgHook): void {
    const link = hook.data as Link;
    this.#table.removeLink(link.index);
    this.#links[link.index] = undefined;
    this.#linkCount--;
    this.#node.engine.buffers.giveBurst(link.out);
    if (this.#node.hooks.length === 0 && !this.#persistent) this.#node.engine.removeNode(this.#node);
  }

  close(): void {
    this.#table.close();
    this.#lookedMapping.close();
  }

  // ---- messages ----

  rcvmsg(msg: NgMessage, lasthook: NgHook | undefined): NgResult {
    if (msg.typecookie !== NGM_BRIDGE_COOKIE) return 'EINVAL';
    switch (msg.cmd) {
      case NGM_BRIDGE_GET_CONFIG:
        return pack(configType, this.#config);
      case NGM_BRIDGE_SET_CONFIG: {
        const config = unpack(configType, msg.data);
        if (config === undefined) return 'EINVAL';
        this.#config = config;
        return undefined;
      }
      case NGM_BRIDGE_RESET:
        return this.#reset();
      case NGM_BRIDGE_GET_STATS:
      case NGM_BRIDGE_CLR_STATS:
      case NGM_BRIDGE_GETCLR_STATS:
        return this.#stats(msg);
      case NGM_BRIDGE_GET_TABLE:
        return this.#getTable();
      case NGM_BRIDGE_SET_PERSISTENT:
        this.#persistent = true;
        return undefined;
      case NGM_BRIDGE_MOVE_HOST:
        return this.#moveHost(msg, lasthook);
      default:
        return 'EINVAL';
    }
  }

  #reset(): undefined {
    this.#table.clear();
    for (const link of this.#links) {
      if (link === undefined) continue;
      link.mutedUntil = 0;
      link.stats.fill(0);
    }
  }

  #stats(msg: NgMessage): NgResult {
    const number = unpack(int32, msg.data);
    if (number === undefined) return 'EINVAL';
    const name = number < 0 ? `uplink${-number}` : `link${number}`;
    const hook = this.#node.findHook(name);
    if (hook === undefined) return this.#node.engine.fail('ENOTCONN', `${name} is not connected`);
    const { stats } = hook.data as Link;
    const response = msg.cmd === NGM_BRIDGE_CLR_STATS ? undefined : statsLayout.pack(stats);
    if (msg.cmd !== NGM_BRIDGE_GET_STATS) stats.fill(0);
    return response;
  }

  #getTable(): Uint8Array {
    const hosts = this.#table.list(this.#now(), this.#config.maxStaleness).map(({ addr, link, ageSec, staleSec }) => ({
      addr,
      age: Math.min(ageSec, MAX_AGE),
      staleness: Math.min(staleSec, MAX_AGE),
      hook: this.#links[link]?.hook.name ?? '',
    }));
    return pack(hostAryType, { numHosts: hosts.length, hosts });
  }

  #moveHost(msg: NgMessage, lasthook: NgHook | undefined): NgResult {
    const args = unpack(moveHostType, msg.data);
    if (args === undefined) return 'EINVAL';
    const hook = args.hook === '' ? lasthook : this.#node.findHook(args.hook);
    if (hook === undefined) return 'ENOENT';
    const { hi, lo } = addressWords(args.addr);
    return this.#put(hi, lo, hook.data as Link, this.#now()) ? undefined : 'ELOOP';
  }

  // ---- data path ----

  rcvdata(hook: NgHook, burst: NgBurst): void {
    const incoming = hook.data as Link;
    const now = this.#now();
    if (incoming.mutedUntil !== 0 && now >= incoming.mutedUntil) this.#unmute(incoming);
    // the kernel reaches one window: with many large guests memory is spread over several
    const { window, off } = this.#table;
    const straight = window === burst.window && window === this.#lookedMapping.window && incoming.mutedUntil === 0;
    const { count } = burst;
    this.#only = NONE;
    for (let i = 0; i < count; i++) {
      if (straight) {
        const { at: offs } = burst;
        const lens = offs + 4 * NG_BURST_FRAMES;
        const { maxStaleness } = this.#config;
        const to = this.#lookedMapping.off;
        const { kernel, index } = window;
        const wins = lens + 4 * NG_BURST_FRAMES;
        const end = kernel.bridge(offs, lens, wins, i, count, index, off, now, maxStaleness, incoming.index, to);
        this.#placeLooked(burst, i, end, incoming);
        i = end;
        if (i === count) break;
      }
      this.#place(burst, i, this.#route(burst, i, incoming, now), incoming);
    }
    if (this.#only > 0) this.#send(this.#links[this.#only]!, burst, burst.bytes());
    else this.#sendListed();
    const { evicted } = this.#table;
    if (evicted > 0) this.#node.values[EVICTED] = evicted;
  }

  /** Places frames that the kernel has looked up. */
  #placeLooked(burst: NgBurst, from: number, end: number, incoming: Link): void {
    const looked = this.#looked;
    let octets = 0;
    for (let i = from; i < end; i++) {
      octets += burst.len[i]!;
      const to = looked[i]!;
      if (to !== this.#only) this.#place(burst, i, to, incoming);
    }
    incoming.stats[at.recvPackets]! += end - from;
    incoming.stats[at.recvOctets]! += octets;
  }

  /** Notes where frame `i` goes: as long as all go to one link, only that. */
  #place(burst: NgBurst, i: number, to: number, incoming: Link): void {
    if (i === 0 && to > 0) this.#only = to;
    else if (to !== this.#only || to <= 0) {
      if (this.#only > 0) this.#listFirst(burst, i, this.#only);
      this.#only = NONE;
      this.#list(burst, i, to, incoming);
    }
  }

  /** Index of the link that frame `i` goes to, FLOOD for all others, or DROP. */
  #route(burst: NgBurst, i: number, incoming: Link, now: number): number {
    const { stats } = incoming;
    const len = burst.len[i]!;
    if (len < ETH_HDR_LEN) {
      stats[at.recvRunts]!++;
      return DROP;
    }
    // read once: the sender may change it meanwhile
    const { u16, u8 } = this.#windows[burst.win[i]!]!;
    const off = burst.off[i]!;
    let dstLo: number;
    let dstHi: number;
    let srcLo: number;
    let srcHi: number;
    if ((off & 1) === 0) {
      const w = off >>> 1;
      dstLo = u16[w]! | (u16[w + 1]! << 16);
      dstHi = u16[w + 2]!;
      srcLo = u16[w + 3]! | (u16[w + 4]! << 16);
      srcHi = u16[w + 5]!;
    } else {
      dstLo = word(u8, off) | (word(u8, off + 2) << 16);
      dstHi = word(u8, off + 4);
      srcLo = word(u8, off + 6) | (word(u8, off + 8) << 16);
      srcHi = word(u8, off + 10);
    }
    if ((srcLo & 1) !== 0) {
      stats[at.recvInvalid]!++;
      return DROP;
    }
    if (incoming.mutedUntil !== 0) {
      stats[at.loopDrops]!++;
      return DROP;
    }
    stats[at.recvPackets]!++;
    stats[at.recvOctets]! += len;
    if (!this.#hear(srcHi, srcLo, incoming, now)) {
      stats[at.loopDrops]!++;
      return DROP;
    }
    const to = this.#lookUp(dstHi, dstLo, incoming, now);
    return to === FLOOD ? this.#countFlood(dstHi, dstLo, stats) : to;
  }

  /** Learns the source of a frame, or finds that it is where it was. False if it jumps: a loop. */
  #hear(hi: number, lo: number, incoming: Link, now: number): boolean {
    const table = this.#table;
    const host = table.find(hi, lo, now, this.#config.maxStaleness);
    if (host >= 0 && table.linkOf(host) === incoming.index) {
      table.heard(host, now);
      return true;
    }
    return (host < 0 && !incoming.learnMac) || this.#put(hi, lo, incoming, now);
  }

  #lookUp(hi: number, lo: number, incoming: Link, now: number): number {
    if ((lo & 1) !== 0) return FLOOD;
    const host = this.#table.find(hi, lo, now, this.#config.maxStaleness);
    if (host < 0) return FLOOD;
    const to = this.#table.linkOf(host);
    return to === incoming.index ? DROP : to;
  }

  #countFlood(dstHi: number, dstLo: number, stats: Float64Array): number {
    if ((dstLo & 1) === 0) {
      stats[at.recvUnknown]!++;
      return FLOOD;
    }
    const broadcast = dstLo === -1 && dstHi === 0xffff;
    stats[broadcast ? at.recvBroadcast : at.recvMulticast]!++;
    return broadcast ? FLOOD_BROADCAST : FLOOD_MULTICAST;
  }

  /** Notes that a host is on a link. False if it was on another one too recently: then `link` is muted. */
  #put(hi: number, lo: number, link: Link, now: number): boolean {
    const table = this.#table;
    const host = table.find(hi, lo, now, this.#config.maxStaleness);
    if (host < 0) table.add(hi, lo, link.index, now);
    else if (table.linkOf(host) !== link.index) {
      if (table.ageOf(host, now) < this.#config.minStableAge) {
        this.#mute(link, now);
        return false;
      }
      table.move(host, link.index, now);
      table.heard(host, now);
    }
    return true;
  }

  #mute(link: Link, now: number): void {
    if (this.#config.debugLevel >= 2) this.#tell(link, 'loopback detected on');
    if (this.#config.loopTimeout > 0) link.mutedUntil = now + this.#config.loopTimeout;
    link.stats[at.loopDetects]!++;
    this.#table.removeLink(link.index);
  }

  #unmute(link: Link): void {
    link.mutedUntil = 0;
    if (this.#config.debugLevel >= 2) this.#tell(link, 'restoring looped back');
  }

  #tell(link: Link, what: string): void {
    this.#node.engine.runtime.log.warn({ node: this.#node.label }, `ng_bridge: ${what} ${link.hook.name}`);
  }

  /** Lists frame `i` with every link it goes to. */
  #list(burst: NgBurst, i: number, to: number, incoming: Link): void {
    if (to === DROP) return;
    const len = burst.len[i]!;
    if (to > 0) {
      const link = this.#links[to]!;
      link.out.pushFrom(burst, i);
      link.outOctets += len;
      return;
    }
    const links = this.#links;
    for (let k = 0; k < links.length; k++) {
      const link = links[k];
      if (link === undefined || link === incoming || (to === FLOOD && !link.sendUnknown)) continue;
      link.out.pushFrom(burst, i);
      link.outOctets += len;
      if (to !== FLOOD) link.stats[to === FLOOD_BROADCAST ? at.xmitBroadcasts : at.xmitMulticasts]!++;
    }
  }

  /** Lists frames 0 to `end` with the link that all of them go to. */
  #listFirst(burst: NgBurst, end: number, to: number): void {
    const link = this.#links[to]!;
    for (let i = 0; i < end; i++) {
      link.out.pushFrom(burst, i);
      link.outOctets += burst.len[i]!;
    }
  }

  #sendListed(): void {
    const links = this.#links;
    for (let k = 0; k < links.length; k++) {
      const link = links[k];
      if (link === undefined || link.out.count === 0) continue;
      this.#send(link, link.out, link.outOctets);
      link.out.count = 0;
      link.outOctets = 0;
    }
  }

  #send(link: Link, burst: NgBurst, octets: number): void {
    link.stats[at.xmitPackets]! += burst.count;
    link.stats[at.xmitOctets]! += octets;
    link.hook.send(burst);
  }

  #now(): number {
    return this.#node.engine.clock();
  }
}

function word(u8: Uint8Array, off: number): number {
  return u8[off]! | (u8[off + 1]! << 8);
}

export const bridgeType: NgType = {
  name: 'bridge',
  cmdlist: bridgeCommands,
  counters: ['hosts_evicted'],
  create: (node) => new Bridge(node),
};
