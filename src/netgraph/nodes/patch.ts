/**
 * patch (ng_patch(4)): changes integers in the frames that come in on hook `in` and sends them out of
 * `out`, or back if there is no `out`. What comes in on `out` goes out of `in` unchanged.
 *
 * Operations beyond the frame's end are left out. csum_flags ask for checksums anew: there is no IP stack behind a
 * graph that would do it later, as in the original, so they are computed here, for Ethernet frames (tags included)
 * with IPv4 and IPv6, TCP and UDP; the bits for SCTP are ignored. A division by zero and an unknown mode are
 * refused: the original crashes with the one and does nothing with the other.
 */

import { be16, setLe16 } from '../../wire/bytes.js';
import { fold, pseudoSumV4, pseudoSumV6, storeIpv4Checksum, storeL4Checksum, sum16 } from '../../wire/checksum.js';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherPayloadOffset } from '../../wire/ethernet.js';
import {
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV4_PROTOCOL,
  IPV4_TOTAL_LEN,
  ipv4HeaderLen,
  isIpv4Fragment,
} from '../../wire/ipv4.js';
import { IPV6_HDR_LEN, IPV6_PAYLOAD_LEN, Ipv6Headers } from '../../wire/ipv6.js';
import { TCP_CHECKSUM, tcpHeaderLen } from '../../wire/tcp.js';
import { UDP_CHECKSUM, UDP_HDR_LEN } from '../../wire/udp.js';
import type { NgBurst } from '../burst.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import type { NgMessage } from '../message.js';
import type { NgCommand, NgMethods, NgNode, NgResult, NgType } from '../node.js';
import { type ArrayLength, array, struct } from '../parse/composites.js';
import { type Packed, pack, unpack } from '../parse/parse-type.js';
import { uint8, uint16, uint32, uint64 } from '../parse/scalars.js';
import { StatsLayout } from './stats.js';

const NGM_PATCH_COOKIE = 1262445509;
const NGM_PATCH_SETCONFIG = 1;
const NGM_PATCH_GETCONFIG = 2;
const NGM_PATCH_GET_STATS = 3;
const NGM_PATCH_CLR_STATS = 4;
const NGM_PATCH_GETCLR_STATS = 5;
const NGM_PATCH_GETDLT = 6;
const NGM_PATCH_SETDLT = 7;

const NG_PATCH_MODE_SET = 1;
const NG_PATCH_MODE_DIV = 5;
const NG_PATCH_MODE_SHR = 11;

// FreeBSD's sys/mbuf.h
const CSUM_IP = 0x1;
const CSUM_IP_UDP = 0x2;
const CSUM_IP_TCP = 0x4;
const CSUM_IP6_UDP = 0x200;
const CSUM_IP6_TCP = 0x400;
const CSUM_MASK = CSUM_IP | CSUM_IP_UDP | CSUM_IP_TCP | CSUM_IP6_UDP | CSUM_IP6_TCP;

// net/bpf.h
const DLT_EN10MB = 1;
const DLT_RAW = 12;

const opType = struct({ offset: uint32, length: uint16, mode: uint16, value: uint64 });
/** where `ops` begins in the structure */
const OPS_OFF = 24;
const opsLength: ArrayLength = ({ view }, at) => (at >= OPS_OFF ? view.getUint32(at - OPS_OFF, true) : 0);
const configType = struct({
  count: uint32,
  csum_flags: uint64,
  relative_offset: uint32,
  ops: array(opType, opsLength),
});
type Config = Packed<typeof configType>;

const layout = new StatsLayout(['Received', 'Patched', 'Dropped']);
const { at } = layout;

const command = (
  cmd: number,
  name: string,
  mesgType?: NgCommand['mesgType'],
  respType?: NgCommand['respType'],
): NgCommand => ({ cookie: NGM_PATCH_COOKIE, cmd, name, mesgType, respType });

/** An operation as the data path wants it. */
interface Op {
  readonly offset: number;
  readonly length: number;
  readonly mode: number;
  readonly hi: number;
  readonly lo: number;
}

class Patch implements NgMethods {
  readonly #node: NgNode;
  readonly #out: NgBurst;
  readonly #stats = layout.create();
  readonly #ipv6 = new Ipv6Headers();
  #inHook: NgHook | undefined;
  #outHook: NgHook | undefined;
  #config: Config | undefined;
  #ops: readonly Op[] = [];
  #csumFlags = 0;
  #dlt = DLT_RAW;

  constructor(node: NgNode) {
    this.#node = node;
    this.#out = node.engine.buffers.takeBurst();
  }

  newhook(hook: NgHook, name: string): Errno | undefined {
    // by their beginnings, as the original: "in2" is an "in"
    if (name.startsWith('in')) this.#inHook = hook;
    else if (name.startsWith('out')) this.#outHook = hook;
    else return this.#node.engine.fail('EINVAL', `a patch has the hooks in and out, not "${name}"`);
    return undefined;
  }

  disconnect(hook: NgHook): void {
    if (hook === this.#inHook) this.#inHook = undefined;
    if (hook === this.#outHook) this.#outHook = undefined;
    if (this.#node.hooks.length === 0) this.#node.engine.removeNode(this.#node);
  }

  close(): void {
    this.#node.engine.buffers.giveBurst(this.#out);
  }

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie !== NGM_PATCH_COOKIE) return 'EINVAL';
    switch (msg.cmd) {
      case NGM_PATCH_SETCONFIG:
        return this.#setConfig(msg);
      case NGM_PATCH_GETCONFIG:
        return this.#config === undefined ? undefined : pack(configType, this.#config);
      case NGM_PATCH_GET_STATS:
      case NGM_PATCH_CLR_STATS:
      case NGM_PATCH_GETCLR_STATS: {
        const response = msg.cmd === NGM_PATCH_CLR_STATS ? undefined : layout.pack(this.#stats);
        if (msg.cmd !== NGM_PATCH_GET_STATS) this.#stats.fill(0);
        return response;
      }
      case NGM_PATCH_GETDLT:
        return pack(uint8, this.#dlt);
      case NGM_PATCH_SETDLT:
        return this.#setDlt(msg);
      default:
        return 'EINVAL';
    }
  }

  #setDlt(msg: NgMessage): NgResult {
    const dlt = unpack(uint8, msg.data);
    if (dlt !== DLT_EN10MB && dlt !== DLT_RAW)
      return this.#node.engine.fail('EINVAL', `${dlt}: 1 is DLT_EN10MB, ${DLT_RAW} DLT_RAW`);
    this.#dlt = dlt;
    return undefined;
  }

  #setConfig(msg: NgMessage): NgResult {
    const config = unpack(configType, msg.data);
    if (config === undefined) return 'EINVAL';
    const { engine } = this.#node;
    for (const op of config.ops) {
      if (![1, 2, 4, 8].includes(op.length))
        return engine.fail('EINVAL', `length=${op.length}: 1, 2, 4 and 8 are possible`);
      if (op.mode < NG_PATCH_MODE_SET || op.mode > NG_PATCH_MODE_SHR)
        return engine.fail('EINVAL', `mode=${op.mode}: 1 to ${NG_PATCH_MODE_SHR} are possible`);
      op.value = BigInt.asUintN(8 * op.length, BigInt(op.value));
      if (op.mode === NG_PATCH_MODE_DIV && op.value === 0n) return engine.fail('EINVAL', 'a division by zero');
    }
    this.#csumFlags = Number(BigInt(config.csum_flags) & BigInt(CSUM_MASK));
    config.csum_flags = this.#csumFlags;
    config.relative_offset = config.relative_offset === 0 ? 0 : 1;
    this.#config = config;
    this.#ops = config.ops.map(({ offset, length, mode, value }) => ({
      offset,
      length,
      mode,
      hi: Number(BigInt(value) >> 32n),
      lo: Number(BigInt(value) & 0xffffffffn),
    }));
    return undefined;
  }

  // ---- data path ----

  rcvdata(hook: NgHook, burst: NgBurst): void {
    this.#stats[at.Received]! += burst.count;
    const to = hook === this.#inHook ? (this.#outHook ?? this.#inHook) : this.#inHook;
    if (to === undefined) this.#stats[at.Dropped]! += burst.count;
    else if (hook !== this.#inHook || this.#config === undefined) to.send(burst);
    else this.#patchBurst(burst, this.#config, to);
  }

  #patchBurst(burst: NgBurst, config: Config, to: NgHook): void {
    const out = this.#out;
    const { buffers } = this.#node.engine;
    const { window } = buffers;
    const relative = config.relative_offset !== 0 && this.#dlt === DLT_EN10MB;
    for (let i = 0; i < burst.count; i++) {
      const len = burst.len[i]!;
      const frame = buffers.arena(len);
      if (frame === 0) {
        this.#stats[at.Dropped]!++;
        continue;
      }
      buffers.copyIn(frame, burst, i, 0, len);
      // a frame without whole link header passes as it is
      const base = relative ? etherPayloadOffset(window.u8, frame, len) : 0;
      if (!relative || base !== 0) {
        this.#patchFrame(frame, len, base);
        if (this.#csumFlags !== 0) this.#checksums(window.u8, frame, len);
      }
      out.push(window.index, frame, len);
    }
    to.send(out);
    out.count = 0;
  }

  #patchFrame(frame: number, len: number, base: number): void {
    const { kernel } = this.#node.engine.buffers.window;
    const ops = this.#ops;
    let patched = false;
    for (let k = 0; k < ops.length; k++) {
      const op = ops[k]!;
      const start = base + op.offset;
      if (start + op.length > len) continue;
      kernel.patch(frame + start, op.length, op.mode, op.hi, op.lo);
      patched = true;
    }
    if (patched) this.#stats[at.Patched]!++;
  }

  /** Stores the checksums that the flags ask for, as far as the frame has them. */
  #checksums(u8: Uint8Array, frame: number, len: number): void {
    const l3 = etherPayloadOffset(u8, frame, len);
    if (l3 === 0) return;
    const etherType = be16(u8, frame + l3 - 2);
    if (etherType === ETHERTYPE_IPV4) this.#checksumsV4(u8, frame + l3, len - l3);
    else if (etherType === ETHERTYPE_IPV6) this.#checksumsV6(u8, frame + l3, len - l3);
  }

  #checksumsV4(u8: Uint8Array, ip: number, here: number): void {
    const hdrLen = ipv4HeaderLen(u8, ip, here);
    const total = hdrLen === 0 ? 0 : be16(u8, ip + IPV4_TOTAL_LEN);
    if (hdrLen === 0 || total < hdrLen || total > here) return;
    if ((this.#csumFlags & CSUM_IP) !== 0) storeIpv4Checksum(u8, ip, hdrLen);
    if (isIpv4Fragment(u8, ip)) return;
    const protocol = u8[ip + IPV4_PROTOCOL]!;
    const l4Len = total - hdrLen;
    if (!this.#wants(protocol, CSUM_IP_TCP, CSUM_IP_UDP)) return;
    this.#l4(u8, ip + hdrLen, l4Len, protocol, pseudoSumV4(u8, ip, protocol, l4Len));
  }

  #checksumsV6(u8: Uint8Array, ip: number, here: number): void {
    const headers = this.#ipv6;
    if (!headers.parse(u8, ip, here) || headers.isFragment || headers.isRouted) return;
    const l4Len = IPV6_HDR_LEN + be16(u8, ip + IPV6_PAYLOAD_LEN) - headers.length;
    const { protocol } = headers;
    if (l4Len < 0 || headers.length + l4Len > here || !this.#wants(protocol, CSUM_IP6_TCP, CSUM_IP6_UDP)) return;
    this.#l4(u8, ip + headers.length, l4Len, protocol, pseudoSumV6(u8, ip, protocol, l4Len, headers.destination));
  }

  #wants(protocol: number, tcp: number, udp: number): boolean {
    const flag = protocol === IPPROTO_TCP ? tcp : protocol === IPPROTO_UDP ? udp : 0;
    return (this.#csumFlags & flag) !== 0;
  }

  #l4(u8: Uint8Array, l4: number, l4Len: number, protocol: number, pseudoSum: number): void {
    const isTcp = protocol === IPPROTO_TCP;
    if (isTcp ? tcpHeaderLen(u8, l4, l4Len) === 0 : l4Len < UDP_HDR_LEN) return;
    const field = l4 + (isTcp ? TCP_CHECKSUM : UDP_CHECKSUM);
    setLe16(u8, field, 0);
    storeL4Checksum(u8, field, fold(pseudoSum + sum16(u8, l4, l4Len)));
  }
}

export const patchType: NgType = {
  name: 'patch',
  cmdlist: [
    command(NGM_PATCH_GETDLT, 'getdlt', undefined, uint8),
    command(NGM_PATCH_SETDLT, 'setdlt', uint8),
    command(NGM_PATCH_GETCONFIG, 'getconfig', undefined, configType),
    command(NGM_PATCH_SETCONFIG, 'setconfig', configType),
    command(NGM_PATCH_GET_STATS, 'getstats', undefined, layout.type),
    command(NGM_PATCH_CLR_STATS, 'clrstats'),
    command(NGM_PATCH_GETCLR_STATS, 'getclrstats', undefined, layout.type),
  ],
  create: (node) => new Patch(node),
};
