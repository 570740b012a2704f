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
/** verdict of a tc program: drop (TCX_DROP) */
const TCX_DROP = 2;

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
 * (packet sockets see frames before that, and what they send does not pass there). Linux 6.6.
 */
export function cutHostOff(ifindex: number, ingress: boolean, closer: Closer): void {
  const attachTypes = ingress ? [bpf.BPF_TCX_INGRESS, bpf.BPF_TCX_EGRESS] : [bpf.BPF_TCX_EGRESS];
  for (const expectedAttachType of attachTypes) {
    const program = closer.add(
      bpf.loadProgram({
        type: bpf.BPF_PROG_TYPE_SCHED_CLS,
        name: 'netbe_cut',
        insns: [...bpf.mov(bpf.R0, TCX_DROP), ...bpf.exit()],
        expectedAttachType,
      }),
    );
    closer.add(bpf.createLink(program.number, ifindex, expectedAttachType));
  }
}
