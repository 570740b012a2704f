/**
 * vlan (ng_vlan(4)): sorts the frames of hook `downstream` by their 802.1Q tag. A hook with a filter gets the
 * frames of its VLAN without tag, and what comes in on it goes downstream with the tag. What has no tag, or one
 * without filter, goes to `nomatch` as it is, and comes from there as it is.
 *
 * A frame here has its tag in its bytes, never beside it, so set/getdecap has nothing to do: it is kept and told.
 * Without encapsulation (setencap 0) the tag is that of 802.1Q, as a card would insert it; with it the EtherType is
 * that of setencapproto.
 */
import { counterIndices } from '../../engine/counters.js';
import { ETH_ADDRS_LEN, ETH_HDR_LEN, ETHERTYPE_VLAN, VLAN_TAG_LEN } from '../../wire/ethernet.js';
import { NG_HOOKSIZ, NGM_FLOW_COOKIE } from '../abi.js';
import type { NgBurst } from '../burst.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import { getString, type NgMessage } from '../message.js';
import {
  type NgCommand,
  type NgMethods,
  type NgNode,
  type NgResult,
  type NgType,
  NODE,
  NODE_COUNTERS,
} from '../node.js';
import { array, lengthBefore, struct } from '../parse/composites.js';
import { pack, unpack } from '../parse/parse-type.js';
import { hint16, hint32, hookbuf, uint8, uint16, uint32 } from '../parse/scalars.js';

const NGM_VLAN_COOKIE = 1068486472;
const NGM_VLAN_ADD_FILTER = 1;
const NGM_VLAN_DEL_FILTER = 2;
const NGM_VLAN_GET_TABLE = 3;
const NGM_VLAN_DEL_VID_FLT = 4;
const NGM_VLAN_GET_DECAP = 5;
const NGM_VLAN_SET_DECAP = 6;
const NGM_VLAN_GET_ENCAP = 7;
const NGM_VLAN_SET_ENCAP = 8;
const NGM_VLAN_GET_ENCAP_PROTO = 9;
const NGM_VLAN_SET_ENCAP_PROTO = 10;
const VLAN_ENCAP_FROM_FILTER = 1;

/** `vlan` is the old name of `vid` */
const filterType = struct({ hook: hookbuf, vlan: uint16, vid: uint16, pcp: uint8, cfi: uint8 });
const tableType = struct({ n: uint32, filter: array(filterType, lengthBefore) });

const VID_MASK = 0xfff;
const NO_TAG = -1;

const counters = ['drop_runt', 'drop_no_filter'] as const;
const C = counterIndices(counters, NODE_COUNTERS);

const command = (
  cmd: number,
  name: string,
  mesgType?: NgCommand['mesgType'],
  respType?: NgCommand['respType'],
): NgCommand => ({ cookie: NGM_VLAN_COOKIE, cmd, name, mesgType, respType });

interface Port {
  readonly hook: NgHook;
  /** PCP, CFI and VID of its filter, or NO_TAG */
  tag: number;
  /** frames of the burst in hand that go out here */
  readonly out: NgBurst;
}

class Vlan implements NgMethods {
  readonly #node: NgNode;
  #downstream: Port | undefined;
  #nomatch: Port | undefined;
  /** by VID */
  readonly #filters: (Port | undefined)[] = new Array(VID_MASK + 1).fill(undefined);
  #ports: Port[] = [];
  #decap = 0;
  #encap = VLAN_ENCAP_FROM_FILTER;
  #encapProto = ETHERTYPE_VLAN;

  constructor(node: NgNode) {
    this.#node = node;
  }

  newhook(hook: NgHook, name: string): Errno | undefined {
    const port: Port = { hook, tag: NO_TAG, out: this.#node.engine.buffers.takeBurst() };
    hook.data = port;
    this.#ports = [...this.#ports, port];
    if (name === 'downstream') this.#downstream = port;
    else if (name === 'nomatch') this.#nomatch = port;
    return undefined;
  }

  disconnect(hook: NgHook): void {
    const port = hook.data as Port;
    if (port === this.#downstream) this.#downstream = undefined;
    else if (port === this.#nomatch) this.#nomatch = undefined;
    this.#removeFilter(port);
    this.#ports = this.#ports.filter((other) => other !== port);
    this.#node.engine.buffers.giveBurst(port.out);
    if (this.#node.hooks.length === 0) this.#node.engine.removeNode(this.#node);
  }

  rcvmsg(msg: NgMessage, lasthook: NgHook | undefined): NgResult {
    if (msg.typecookie === NGM_FLOW_COOKIE) return this.#passOn(msg, lasthook);
    if (msg.typecookie !== NGM_VLAN_COOKIE) return 'EINVAL';
    switch (msg.cmd) {
      case NGM_VLAN_ADD_FILTER:
        return this.#addFilter(msg);
      case NGM_VLAN_DEL_FILTER:
        return this.#delFilter(msg);
      case NGM_VLAN_DEL_VID_FLT:
        return this.#delVidFilter(msg);
      case NGM_VLAN_GET_TABLE:
        return this.#getTable();
      default:
        return this.#encapsulation(msg);
    }
  }

  #addFilter(msg: NgMessage): NgResult {
    const args = unpack(filterType, msg.data);
    if (args === undefined) return 'EINVAL';
    const { engine } = this.#node;
    const vid = args.vid === 0 ? args.vlan : args.vid;
    if (args.vlan !== 0 && args.vlan !== vid)
      return engine.fail('EINVAL', `vlan=${args.vlan} and vid=${vid} are two names of one thing, and differ`);
    if (vid > VID_MASK || args.pcp > 7 || args.cfi > 1)
      return engine.fail('EINVAL', `vid=${vid} pcp=${args.pcp} cfi=${args.cfi}: 0-4095, 0-7 and 0-1 are possible`);
    const hook = this.#node.findHook(args.hook);
    if (hook === undefined) return engine.fail('ENOENT', `there is no hook "${args.hook}": connect it first`);
    const port = hook.data as Port;
    if (port === this.#downstream || port === this.#nomatch)
      return engine.fail('EINVAL', `hook "${args.hook}" cannot have a filter: downstream and nomatch have none`);
    if (port.tag !== NO_TAG) return engine.fail('EEXIST', `hook "${args.hook}" has a filter already`);
    if (this.#filters[vid] !== undefined) return engine.fail('EEXIST', `VLAN ${vid} has a filter already`);
    port.tag = (args.pcp << 13) | (args.cfi << 12) | vid;
    this.#filters[vid] = port;
    return undefined;
  }

  #delFilter(msg: NgMessage): NgResult {
    if (msg.data.length !== NG_HOOKSIZ) return 'EINVAL';
    const port = this.#node.findHook(getString(msg.data, 0, NG_HOOKSIZ))?.data as Port | undefined;
    if (port === undefined || port.tag === NO_TAG) return 'ENOENT';
    this.#removeFilter(port);
    return undefined;
  }

  #delVidFilter(msg: NgMessage): NgResult {
    const vid = unpack(uint16, msg.data);
    if (vid === undefined || vid > VID_MASK) return 'EINVAL';
    const port = this.#filters[vid];
    if (port === undefined) return 'ENOENT';
    this.#removeFilter(port);
    return undefined;
  }

  #removeFilter(port: Port): void {
    if (port.tag === NO_TAG) return;
    this.#filters[port.tag & VID_MASK] = undefined;
    port.tag = NO_TAG;
  }

  #getTable(): Uint8Array {
    const filter = this.#filters.flatMap((port, vid) =>
      port === undefined
        ? []
        : [{ hook: port.hook.name, vlan: vid, vid, pcp: port.tag >>> 13, cfi: (port.tag >>> 12) & 1 }],
    );
    return pack(tableType, { n: filter.length, filter });
  }

  #encapsulation(msg: NgMessage): NgResult {
    const word = unpack(uint32, msg.data);
    switch (msg.cmd) {
      case NGM_VLAN_GET_DECAP:
        return pack(uint32, this.#decap);
      case NGM_VLAN_GET_ENCAP:
        return pack(uint32, this.#encap);
      case NGM_VLAN_GET_ENCAP_PROTO:
        return pack(uint16, this.#encapProto);
      case NGM_VLAN_SET_DECAP:
        if (word === undefined) return 'EINVAL';
        this.#decap = word;
        return undefined;
      case NGM_VLAN_SET_ENCAP:
        if (word === undefined) return 'EINVAL';
        this.#encap = word;
        return undefined;
      case NGM_VLAN_SET_ENCAP_PROTO: {
        const proto = unpack(uint16, msg.data);
        if (proto === undefined) return 'EINVAL';
        this.#encapProto = proto;
        return undefined;
      }
      default:
        return 'EINVAL';
    }
  }

  /** What comes from downstream of the link's state is told to all VLANs. */
  #passOn(msg: NgMessage, lasthook: NgHook | undefined): undefined {
    if (lasthook === undefined || lasthook.data !== this.#downstream) return;
    for (const port of this.#filters) if (port !== undefined) this.#node.engine.sendOver(port.hook, msg);
  }

  // ---- data path ----

  rcvdata(hook: NgHook, burst: NgBurst): void {
    const from = hook.data as Port;
    if (from === this.#downstream) this.#sort(burst);
    else if (this.#downstream === undefined) this.#node.values[NODE.drop_not_connected]! += burst.count;
    else if (from === this.#nomatch) this.#downstream.hook.send(burst);
    else if (from.tag === NO_TAG) this.#node.values[C.drop_no_filter]! += burst.count;
    else this.#tag(burst, from.tag, this.#downstream);
  }

  #sort(burst: NgBurst): void {
    const { windows } = this.#node.engine.runtime.windows;
    const ports = this.#ports;
    for (let i = 0; i < burst.count; i++) {
      const len = burst.len[i]!;
      if (len < ETH_HDR_LEN) {
        this.#node.values[C.drop_runt]!++;
        continue;
      }
      const { u8 } = windows[burst.win[i]!]!;
      const t = burst.off[i]! + ETH_ADDRS_LEN;
      const tagged = ((u8[t]! << 8) | u8[t + 1]!) === this.#encapProto;
      if (tagged && len < ETH_HDR_LEN + VLAN_TAG_LEN) {
        this.#node.values[C.drop_runt]!++;
        continue;
      }
      const port = tagged ? this.#filters[((u8[t + 2]! << 8) | u8[t + 3]!) & VID_MASK] : undefined;
      if (port !== undefined) this.#untag(burst, i, port.out);
      else if (this.#nomatch === undefined) this.#node.values[NODE.drop_not_connected]!++;
      else this.#nomatch.out.pushFrom(burst, i);
    }
    for (let k = 0; k < ports.length; k++) {
      const { hook, out } = ports[k]!;
      if (out.count > 0) hook.send(out);
      out.count = 0;
    }
  }

  #untag(burst: NgBurst, i: number, out: NgBurst): void {
    const len = burst.len[i]! - VLAN_TAG_LEN;
    const at = this.#copy(burst, i, len, ETH_ADDRS_LEN, ETH_ADDRS_LEN + VLAN_TAG_LEN);
    if (at !== 0) out.push(this.#node.engine.buffers.window.index, at, len);
  }

  #tag(burst: NgBurst, tag: number, downstream: Port): void {
    const { out, hook } = downstream;
    const { window } = this.#node.engine.buffers;
    const proto = (this.#encap & VLAN_ENCAP_FROM_FILTER) !== 0 ? this.#encapProto : ETHERTYPE_VLAN;
    for (let i = 0; i < burst.count; i++) {
      if (burst.len[i]! < ETH_HDR_LEN) {
        this.#node.values[C.drop_runt]!++;
        continue;
      }
      const len = burst.len[i]! + VLAN_TAG_LEN;
      const at = this.#copy(burst, i, len, ETH_ADDRS_LEN + VLAN_TAG_LEN, ETH_ADDRS_LEN);
      if (at === 0) continue;
      const t = at + ETH_ADDRS_LEN;
      window.u8[t] = proto >>> 8;
      window.u8[t + 1] = proto & 255;
      window.u8[t + 2] = tag >>> 8;
      window.u8[t + 3] = tag & 255;
      out.push(window.index, at, len);
    }
    if (out.count > 0) hook.send(out);
    out.count = 0;
  }

  /** The addresses of frame `i`, and what follows from `from` on, moved to `to`, `len` bytes in all. Returns where, or 0. */
  #copy(burst: NgBurst, i: number, len: number, to: number, from: number): number {
    const { buffers } = this.#node.engine;
    const at = buffers.arena(len);
    if (at === 0) {
      this.#node.values[NODE.drop_no_memory]!++;
      return 0;
    }
    buffers.copyIn(at, burst, i, 0, ETH_ADDRS_LEN);
    buffers.copyIn(at + to, burst, i, from, len - to);
    return at;
  }
}

export const vlanType: NgType = {
  name: 'vlan',
  cmdlist: [
    command(NGM_VLAN_ADD_FILTER, 'addfilter', filterType),
    command(NGM_VLAN_DEL_FILTER, 'delfilter', hookbuf),
    command(NGM_VLAN_GET_TABLE, 'gettable', undefined, tableType),
    command(NGM_VLAN_DEL_VID_FLT, 'delvidflt', uint16),
    command(NGM_VLAN_GET_DECAP, 'getdecap', undefined, hint32),
    command(NGM_VLAN_SET_DECAP, 'setdecap', hint32),
    command(NGM_VLAN_GET_ENCAP, 'getencap', undefined, hint32),
    command(NGM_VLAN_SET_ENCAP, 'setencap', hint32),
    command(NGM_VLAN_GET_ENCAP_PROTO, 'getencapproto', undefined, hint16),
    command(NGM_VLAN_SET_ENCAP_PROTO, 'setencapproto', hint16),
  ],
  counters,
  create: (node) => new Vlan(node),
};
