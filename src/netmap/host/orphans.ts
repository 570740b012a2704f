/**
 * The frames of an interface that its host would discard because nobody there knows their protocol: copies of them,
 * and a way out to the wire. The host keeps the interface.
 *
 * Which protocols are known is what /proc/net/ptype says when it is looked at: of the kernel's own, and of programs
 * that listen for one. Frames with a VLAN tag, and those for another station's address, are discarded
 * before anybody looks at their protocol, as FreeBSD does it, and are not seen here.
 */
import { readFileSync } from 'node:fs';
import type { WindowPool } from '../../memory/window.js';
import { type Instruction, jumpEqual, load, ret, whenEqual } from '../../sys/bpf-assembler.js';
import type { NetdevInfo } from '../../sys/netdev.js';
import { FRAME_HAS_TAG, FRAME_MARK, FRAME_PACKET_TYPE, FRAME_PROTOCOL } from '../../sys/packet-socket.js';
import { Closer, HOST_RING_MARK } from './attach.js';
import type { OpenedHostPort } from './open.js';
import { PacketPort } from './packet-port.js';

// linux/if_packet.h
const PACKET_OTHERHOST = 3;
const PACKET_OUTGOING = 4;
const ETH_P_8021Q = 0x8100;
const ETH_P_8021AD = 0x88a8;
const SLOTS = 256;

/** Protocols that somebody of the host takes from this interface, of the text of /proc/net/ptype. */
export function knownProtocols(ptype: string, interfaceName: string): number[] {
  const known = new Set<number>();
  for (const line of ptype.split('\n')) {
    const [, type, device] = /^([0-9a-f]{4})\s+(?:(\S+)\s+)?\S+\s*$/.exec(line) ?? [];
    if (type !== undefined && (device === undefined || device === interfaceName)) known.add(Number.parseInt(type, 16));
  }
  return [...known];
}

/** `fromHostRings`: the wire's frames do not reach the host, only those that are written to its rings. */
export function orphansFilter(known: readonly number[], fromHostRings: boolean): Instruction[] {
  const none = [ret(0)];
  return [
    load(FRAME_PACKET_TYPE),
    ...whenEqual(PACKET_OTHERHOST, none),
    ...whenEqual(PACKET_OUTGOING, none),
    load(FRAME_HAS_TAG),
    ...whenEqual(1, none),
    ...(fromHostRings ? [load(FRAME_MARK), jumpEqual(HOST_RING_MARK, 1, 0), ...none] : []),
    load(FRAME_PROTOCOL),
    ...[...known, ETH_P_8021Q, ETH_P_8021AD].flatMap((protocol) => whenEqual(protocol, none)),
    ret(0xffffffff),
  ];
}

function filterFor(interfaceName: string, fromHostRings: boolean): Instruction[] {
  const ptype = readFileSync('/proc/thread-self/net/ptype', 'utf8');
  return orphansFilter(knownProtocols(ptype, interfaceName), fromHostRings);
}

export class OrphansPort extends PacketPort {
  readonly #interfaceName: string;

  constructor(pool: WindowPool, { name, index }: NetdevInfo, fromHostRings: boolean) {
    super(pool, { ifindex: index, slots: SLOTS, onHostNotCut: () => {}, copies: filterFor(name, fromHostRings) });
    this.#interfaceName = name;
  }

  /** Looks at the known protocols anew. */
  refresh(fromHostRings: boolean): void {
    this.setCopies(filterFor(this.#interfaceName, fromHostRings));
  }
}

export function openedOrphans(port: OrphansPort): OpenedHostPort {
  const closer = new Closer();
  closer.add(port);
  return { port, passedOver: [], warnings: [], closer };
}
