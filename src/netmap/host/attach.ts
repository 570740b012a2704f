/**
 * Taking an interface's traffic from the host, with programs of our own in the kernel. All of them are
 * attached by links: when the descriptors go, whatever the reason, the host has its traffic back.
 */
import * as bpf from '../../sys/bpf.js';
import type { Fd } from '../../sys/fd.js';

// linux/if_link.h
const XDP_FLAGS_SKB_MODE = 1 << 1;
const XDP_FLAGS_DRV_MODE = 1 << 2;
const XDP_PASS = 2;
/** offset of rx_queue_index in struct xdp_md */
const RX_QUEUE_INDEX = 16;
// verdicts of a tc program (linux/bpf.h): the next one decides, drop
const TCX_NEXT = -1;
const TCX_DROP = 2;
/** offset of mark in struct __sk_buff */
const MARK = 8;
/** Mark of frames between an interface and the tap that is its host rings: "nbhr". Nobody else sees it. */
export const HOST_RING_MARK = 0x6e626872;

/** Closes what was opened, from the last to the first. */
export class Closer {
  readonly #fds: { close(): void }[] = [];

  add<T extends { close(): void }>(fd: T): T {
    this.#fds.push(fd);
    return fd;
  }

  close(): void {
    for (let fd = this.#fds.pop(); fd !== undefined; fd = this.#fds.pop()) fd.close();
  }
}

/** A map of AF_XDP sockets by receive queue. */
export function createSocketMap(queues: number): Fd {
  return bpf.createMap(bpf.BPF_MAP_TYPE_XSKMAP, queues, 'netbe_xsks');
}

/** Sends each frame to the socket of its receive queue; to the host where the queue has none. */
export function attachXdp(ifindex: number, map: Fd, native: boolean, frags: boolean, closer: Closer): void {
  const program = closer.add(
    bpf.loadProgram({
      type: bpf.BPF_PROG_TYPE_XDP,
      name: 'netbe_redirect',
      insns: [
        ...bpf.ldxW(bpf.R2, bpf.R1, RX_QUEUE_INDEX),
        ...bpf.ldMapFd(bpf.R1, map.number),
        ...bpf.mov(bpf.R3, XDP_PASS),
        ...bpf.call(bpf.BPF_FUNC_redirect_map),
        ...bpf.exit(),
      ],
      flags: frags ? bpf.BPF_F_XDP_HAS_FRAGS : 0,
      expectedAttachType: bpf.BPF_XDP,
    }),
  );
  closer.add(bpf.createLink(program.number, ifindex, bpf.BPF_XDP, native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE));
}

/**
 * Cuts the host off: what it sends through the interface is dropped, and with `ingress` what comes
 * (packet sockets see frames before that, and what they send does not pass there). Host rings, opened
 * before or after, go on: what they take never comes here, what they give is let through. Linux 6.6.
 */
export function cutHostOff(ifindex: number, ingress: boolean, closer: Closer): void {
  const drop = [...bpf.mov(bpf.R0, TCX_DROP), ...bpf.exit()];
  attachTcx('netbe_cut', ifindex, bpf.BPF_TCX_EGRESS, drop, closer);
  if (ingress) attachTcx('netbe_cut', ifindex, bpf.BPF_TCX_INGRESS, unlessMarked(drop), closer, bpf.BPF_F_BEFORE);
}

/**
 * Leads what the host sends through the interface to the tap instead, and what is written to the tap to the
 * host, as received by the interface. The mark keeps frames apart that the host sends to the tap of its own
 * accord (IPv6 does), and that come to the interface from its wire.
 */
export function divertHost(ifindex: number, tapIndex: number, closer: Closer): void {
  const { BPF_TCX_EGRESS, BPF_TCX_INGRESS, BPF_F_BEFORE } = bpf;
  const drop = [...bpf.mov(bpf.R0, TCX_DROP), ...bpf.exit()];
  const next = [...bpf.mov(bpf.R0, TCX_NEXT), ...bpf.exit()];
  attachTcx('netbe_from_host', tapIndex, BPF_TCX_EGRESS, unmarkOr(drop), closer);
  attachTcx('netbe_to_host', tapIndex, BPF_TCX_INGRESS, redirect(ifindex, bpf.BPF_F_INGRESS), closer);
  attachTcx('netbe_to_host', ifindex, BPF_TCX_INGRESS, unmarkOr(next), closer);
  // first of all: programs that cut the host off are not to see what is taken here
  attachTcx('netbe_from_host', ifindex, BPF_TCX_EGRESS, redirect(tapIndex, 0), closer, BPF_F_BEFORE);
}

/** Hands the frame to another interface, marked. */
function redirect(ifindex: number, flags: number): bpf.BpfInsn[] {
  return [
    ...bpf.mov(bpf.R2, HOST_RING_MARK),
    ...bpf.stxW(bpf.R1, MARK, bpf.R2),
    ...bpf.mov(bpf.R1, ifindex),
    ...bpf.mov(bpf.R2, flags),
    ...bpf.call(bpf.BPF_FUNC_redirect),
    ...bpf.exit(),
  ];
}

/** Takes the mark from frames that have it; `rest` for all others. */
function unmarkOr(rest: readonly bpf.BpfInsn[]): bpf.BpfInsn[] {
  const marked = [
    ...bpf.mov(bpf.R2, 0),
    ...bpf.stxW(bpf.R1, MARK, bpf.R2),
    ...bpf.mov(bpf.R0, TCX_NEXT),
    ...bpf.exit(),
  ];
  return whenMarked(marked, rest);
}

function unlessMarked(rest: readonly bpf.BpfInsn[]): bpf.BpfInsn[] {
  return whenMarked([...bpf.mov(bpf.R0, TCX_NEXT), ...bpf.exit()], rest);
}

function whenMarked(marked: readonly bpf.BpfInsn[], rest: readonly bpf.BpfInsn[]): bpf.BpfInsn[] {
  return [
    ...bpf.ldxW(bpf.R2, bpf.R1, MARK),
    ...bpf.jumpUnlessEqual(bpf.R2, HOST_RING_MARK, marked.length),
    ...marked,
    ...rest,
  ];
}

function attachTcx(
  name: string,
  ifindex: number,
  expectedAttachType: number,
  insns: readonly bpf.BpfInsn[],
  closer: Closer,
  flags = 0,
): void {
  const program = closer.add(bpf.loadProgram({ type: bpf.BPF_PROG_TYPE_SCHED_CLS, name, insns, expectedAttachType }));
  closer.add(bpf.createLink(program.number, ifindex, expectedAttachType, flags));
}
